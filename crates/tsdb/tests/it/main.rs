//! Tests of the data base from outside.

mod contract;
mod crash;
mod damage;
mod model;
mod prometheus;
mod world;
