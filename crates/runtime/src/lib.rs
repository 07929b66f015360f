//! Sandboxes and containers as one service, shaped like CRI.
