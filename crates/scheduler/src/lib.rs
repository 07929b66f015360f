//! Queue, filter, score, bind.
