//! What clients may cost the server.

use std::time::Duration;

/// Bounds on clients, each of which is closed or made to wait at them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections at a time; further ones are closed at once.
    pub connections_max: usize,
    /// Requests that one connection has carried out at a time, each on a thread of its own.
    pub workers_per_connection_max: usize,
    /// Such threads in all, beyond the first of each connection.
    pub extra_workers_max: usize,
    /// Bytes of large requests in flight, all connections together; a connection may use a
    /// quarter of them, and at least one request always goes on.
    pub in_flight_bytes_max: u64,
    /// How long the handshake may take.
    pub handshake_timeout: Duration,
    /// How long a request may take to arrive once it began, and a reply to be taken. A client
    /// that sends nothing between requests may do so for ever.
    pub message_timeout: Duration,
    /// How long a stopping server waits for clients to take the replies to what is in flight.
    pub stop_grace: Duration,
    /// How long a stopping server waits for exports, once for the requests in flight and once for
    /// the final flush: an export that hangs cannot be ended, and must not keep the program
    /// around it from ending.
    pub stop_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 1024,
            workers_per_connection_max: 16,
            extra_workers_max: 256,
            in_flight_bytes_max: 512 << 20,
            handshake_timeout: Duration::from_secs(30),
            message_timeout: Duration::from_secs(60),
            stop_grace: Duration::from_secs(2),
            stop_timeout: Duration::from_secs(120),
        }
    }
}
