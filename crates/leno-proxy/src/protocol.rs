//! The protocols of a connection: how each is recognised.

pub mod sni;
pub mod sniff;

pub use sni::{HELLO_MAX, ServerName, server_name};
pub use sniff::{SNIFF_MAX, Sniffed, sniff};
