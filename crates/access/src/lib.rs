//! Who may do what on any listener other than the API server's.
