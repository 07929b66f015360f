//! The gateway with real sockets: objects in, requests through, answers out. No API server.

mod bed;

mod requests;

mod hostile;

mod changes;

mod secure;
