//! Request, watch, one shared cache per kind, work queue.
