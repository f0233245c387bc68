//! Networks: addresses that begin alike.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// All addresses that begin with the same bits: `10.0.0.0/8`, `2001:db8::/32`, or one address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Network {
    address: IpAddr,
    bits: u8,
}

/// A text that is no network.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum NetworkError {
    /// Not an address, with or without a number of bits.
    #[error("{0:?} is no network; write an address, or one with the bits that count, as 10.0.0.0/8 or 2001:db8::/32")]
    NotANetwork(String),
    /// An address within the network that was meant.
    #[error("{0:?} has bits beyond those that count; write {1}")]
    BitsBeyond(String, Network),
}

// === impl Network ===

impl Network {
    /// Whether an address is of it. One of IPv4 may be written as one of IPv6.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                first(own.to_bits(), self.bits) == first(other.to_bits(), self.bits)
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                own.to_bits() & mask6(self.bits) == other.to_bits() & mask6(self.bits)
            }
            _ => false,
        }
    }
}

fn first(address: u32, bits: u8) -> u32 {
    address & u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0)
}

fn mask6(bits: u8) -> u128 {
    u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0)
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.bits)
    }
}

impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let wrong = || NetworkError::NotANetwork(text.to_owned());
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let bits = match bits {
            None => most,
            Some(bits) if bits.bytes().all(|byte| byte.is_ascii_digit()) => bits.parse().map_err(|_| wrong())?,
            Some(_) => return Err(wrong()),
        };
        if bits > most {
            return Err(wrong());
        }
        let begin = match address {
            IpAddr::V4(v4) => IpAddr::V4(first(v4.to_bits(), bits).into()),
            IpAddr::V6(v6) => IpAddr::V6((v6.to_bits() & mask6(bits)).into()),
        };
        let network = Network { address: begin, bits };
        if begin != address {
            return Err(NetworkError::BitsBeyond(text.to_owned(), network));
        }
        Ok(network)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contains(network: &str, address: &str) -> bool {
        network.parse::<Network>().unwrap().contains(address.parse().unwrap())
    }

    #[test]
    fn addresses_are_of_a_network_by_their_first_bits() {
        assert!(contains("10.0.0.0/8", "10.255.0.1") && !contains("10.0.0.0/8", "11.0.0.1"));
        assert!(contains("10.0.0.0/8", "::ffff:10.0.0.1") && !contains("10.0.0.0/8", "::1"));
        assert!(contains("192.0.2.7", "192.0.2.7") && !contains("192.0.2.7", "192.0.2.6"));
        assert!(contains("192.0.2.6/31", "192.0.2.7") && contains("0.0.0.0/0", "203.0.113.1"));
        assert!(contains("2001:db8::/33", "2001:db8:7fff::1") && !contains("2001:db8::/33", "2001:db8:8000::1"));
        assert!(contains("::/0", "2001:db8::1") && !contains("::/0", "192.0.2.1"));
        assert!(contains("2001:db8::1", "2001:db8::1") && !contains("2001:db8::1", "2001:db8::2"));
    }

    #[test]
    fn what_is_no_network_is_refused_with_what_was_meant() {
        for text in ["", "10", "10.0.0.0/", "10.0.0.0/33", "10.0.0.0/+8", "10.0.0.0/8/8", "::/129", "a/8", " 10.0.0.1"]
        {
            assert_eq!(text.parse::<Network>(), Err(NetworkError::NotANetwork(text.to_owned())), "{text}");
        }
        let beyond = "10.1.2.3/8".parse::<Network>().unwrap_err().to_string();
        assert!(beyond.ends_with("write 10.0.0.0/8"), "{beyond}");
        assert_eq!("10.0.0.1".parse::<Network>().unwrap().to_string(), "10.0.0.1/32");
    }
}
