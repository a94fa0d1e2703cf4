//! Tests of the server against `specs/nbd.md`.
#![allow(clippy::unwrap_used)]

#[cfg(feature = "tls")]
mod certificates;
mod client;
mod codec;
mod codec_check;
mod disk;
mod exports;
mod handshake;
mod life;
mod long;
mod mix;
mod requests;
mod stuck;
#[cfg(feature = "tls")]
mod tls;
mod tools;
