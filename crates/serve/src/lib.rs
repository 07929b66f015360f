//! Listeners, TLS, HTTP/1 and HTTP/2, upgrades (WebSocket, SPDY), drain.
