//! The store from outside: one contract for both implementations, and what a directory must survive.

mod contract;
mod crash;
mod damage;
mod embedded;
mod etcd;
mod full;
mod power;
