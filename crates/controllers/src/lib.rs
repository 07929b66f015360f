//! The controllers, one file per kind.
