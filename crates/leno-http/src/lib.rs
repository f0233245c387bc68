//! HTTP for leno: message types, an own strict HTTP/1, HTTP/2, gRPC, client and server, pools, limits.
//!
//! ```text
//! leno_net::Stream ─► server::serve_connection ─► Handler(RequestHead, Body, Reply)
//!                        h1/  h2/                        │  pump: Body ─► RequestBody
//!                                                        ▼
//! leno_net::Stream ◄─ client::Connection ◄─ pool ◄─ (the proxy's request path)
//! ```
//!
//! Read in the order of the `mod` lines. Invariants: whatever `reliability` calls malformed is refused before a handler
//! sees any of it; a message is always written anew from its parsed form, never copied through; a connection with
//! anything unread or unsent is never used for another message; every buffer, count and wait has a limit
//! ([`limits::Limits`]). Everything belongs to one thread (`!Send`) except [`limits::Strikes`].

#![warn(missing_docs)]

pub mod body;
mod buffer;
pub mod caching;
pub mod client;
pub mod error;
pub mod fields;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
pub mod grpc;
mod h1;
mod h2;
pub mod hold;
pub mod limits;
pub mod message;
mod pace;
pub mod pool;
pub mod pump;
pub mod server;
pub mod service;
mod timer;
pub mod tunnel;

pub use body::{Body, BodyLength, Frame};
pub use client::{Connection, RequestBody, Response, ResponseFuture};
pub use error::{Error, ErrorKind, Part, Processed, Result, Retry, Side};
pub use fields::{Fields, Upgrades};
pub use limits::{LimitError, Limits, Malformed, Strikes, UnderscoredNames};
pub use message::{Method, RequestHead, ResponseHead, Scheme, TargetForm, Text, Version};
pub use pool::{Pool, PoolOptions, PoolSize};
pub use pump::{Pumped, Sink, pump, pump_with};
pub use server::{Handler, Reply, ReplyBody, Served, ServerOptions, Spawn, SpawnLocal, serve_connection};
pub use service::ServiceHandler;
pub use tunnel::Tunnel;
