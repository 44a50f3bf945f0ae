//! Connections that the application made.
