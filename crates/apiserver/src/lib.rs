//! The one door to the store.
