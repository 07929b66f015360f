//! Answers DNS from records it is given and forwards the rest.
