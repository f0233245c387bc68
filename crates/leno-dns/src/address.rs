//! Virtual addresses: what a mesh name resolves to inside a captured program, and the way back.
//!
//! A name's address is a hash of the name, and the next free one where that is taken: the same name has the same
//! address in every proxy and after a restart, so that programs which never ask again (Java by default) keep working.
//! IPv4 addresses are of 240.0.0.0/4, which nobody routes; the IPv6 address is the same number below a ULA prefix.
//!
//! At most [`NAMES_MAX`] names; the one that was not used for longest makes room. A lock is held for one look-up, once
//! a connection, never while a request runs.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Mutex, MutexGuard, PoisonError};

use leno_model::name::ServiceName;

/// Names that have an address at once.
pub const NAMES_MAX: usize = 65_536;

/// 240.0.0.0 to 254.255.255.255: 255/8 holds the broadcast address.
const FIRST: u32 = 0xf000_0000;
const SIZE: u32 = 0x0f00_0000;
/// fd6c:656e:6f00::/48 has `leno` in it; the last 32 bits are the IPv4 address.
const ULA: u128 = 0xfd6c_656e_6f00 << 80;
const ULA_BITS: u32 = 48;

/// Both addresses of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct VirtualAddress(u32);

/// Gives names their addresses. Shared by the DNS server and whoever accepts captured connections.
#[derive(Debug)]
pub struct VirtualAddresses {
    taken: Mutex<Taken>,
    max: usize,
}

#[derive(Debug, Default)]
struct Taken {
    by_name: HashMap<ServiceName, VirtualAddress>,
    by_address: HashMap<VirtualAddress, Entry>,
    /// By the time of last use, counted in uses.
    by_use: BTreeMap<u64, VirtualAddress>,
    uses: u64,
}

#[derive(Debug)]
struct Entry {
    name: ServiceName,
    used: u64,
}

/// Whether an address is of the virtual ranges, given to a name or not.
pub fn is_virtual(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.octets()[0] >= 240 && v4 != Ipv4Addr::BROADCAST,
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => is_virtual(IpAddr::V4(v4)),
            None => v6.to_bits() >> (128 - ULA_BITS) == ULA >> (128 - ULA_BITS),
        },
    }
}

// === impl VirtualAddress ===

impl VirtualAddress {
    /// The IPv4 form.
    pub fn v4(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.0)
    }

    /// The IPv6 form.
    pub fn v6(self) -> Ipv6Addr {
        Ipv6Addr::from_bits(ULA | u128::from(self.0))
    }

    /// Reads either form.
    fn of(address: IpAddr) -> Option<Self> {
        let number = match address {
            IpAddr::V4(v4) => v4.to_bits(),
            IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
                Some(v4) => v4.to_bits(),
                None => u32::try_from(v6.to_bits() ^ ULA).ok()?,
            },
        };
        Some(Self(number))
    }

    /// Where the search for a free address begins. Fixed for ever: programs remember addresses.
    fn home(name: &ServiceName) -> Self {
        // FNV-1a, then the finaliser of MurmurHash3, because the low bits of FNV alone are weak.
        let bytes = name.name.bytes().chain([b'.']).chain(name.namespace.bytes());
        let hash = bytes
            .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
        let hash = (hash ^ hash >> 33).wrapping_mul(0xff51_afd7_ed55_8ccd);
        let hash = (hash ^ hash >> 33).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
        Self(FIRST + ((hash >> 32) % u64::from(SIZE)) as u32).usable()
    }

    fn next(self) -> Self {
        let next = self.0 + 1;
        Self(if next >= FIRST + SIZE { FIRST } else { next }).usable()
    }

    /// Some programs take addresses that end in 0 or 255 for networks and broadcasts.
    fn usable(self) -> Self {
        match self.0 & 0xff {
            0 => Self(self.0 | 1),
            255 => Self(self.0 - 254),
            _ => self,
        }
    }
}

// === impl VirtualAddresses ===

impl VirtualAddresses {
    /// None given yet.
    pub fn new() -> Self {
        Self::with_max(NAMES_MAX)
    }

    fn with_max(max: usize) -> Self {
        Self { taken: Mutex::default(), max }
    }

    /// The address of a name, given to it now if it has none.
    pub fn address(&self, name: &ServiceName) -> VirtualAddress {
        let mut taken = self.lock();
        if let Some(address) = taken.by_name.get(name).copied() {
            taken.touch(address);
            return address;
        }
        if taken.by_name.len() >= self.max {
            taken.forget_oldest();
        }
        let mut address = VirtualAddress::home(name);
        while taken.by_address.contains_key(&address) {
            address = address.next();
        }
        taken.insert(name.clone(), address);
        address
    }

    /// The name that has this address.
    pub fn name(&self, address: IpAddr) -> Option<ServiceName> {
        let mut taken = self.lock();
        let address = VirtualAddress::of(address)?;
        let name = taken.by_address.get(&address)?.name.clone();
        taken.touch(address);
        Some(name)
    }

    /// How many names have one.
    pub fn len(&self) -> usize {
        self.lock().by_name.len()
    }

    /// Whether no name has one.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for VirtualAddresses {
    fn default() -> Self {
        Self::new()
    }
}

// === impl Taken ===

impl Taken {
    fn insert(&mut self, name: ServiceName, address: VirtualAddress) {
        self.uses += 1;
        self.by_use.insert(self.uses, address);
        self.by_name.insert(name.clone(), address);
        self.by_address.insert(address, Entry { name, used: self.uses });
    }

    fn touch(&mut self, address: VirtualAddress) {
        let Some(entry) = self.by_address.get_mut(&address) else { return };
        self.uses += 1;
        self.by_use.remove(&entry.used);
        self.by_use.insert(self.uses, address);
        entry.used = self.uses;
    }

    fn forget_oldest(&mut self) {
        let Some((_, address)) = self.by_use.pop_first() else { return };
        if let Some(entry) = self.by_address.remove(&address) {
            self.by_name.remove(&entry.name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> ServiceName {
        text.parse().unwrap()
    }

    #[test]
    fn a_name_keeps_its_address_and_the_address_leads_back() {
        let addresses = VirtualAddresses::new();
        let cart = addresses.address(&name("cart.shop"));
        assert_eq!(addresses.address(&name("cart.shop")), cart);
        assert_eq!(addresses.name(cart.v4().into()), Some(name("cart.shop")));
        assert_eq!(addresses.name(cart.v6().into()), Some(name("cart.shop")));
        assert_eq!(addresses.name(cart.v4().to_ipv6_mapped().into()), Some(name("cart.shop")));
        assert_eq!(addresses.name("10.0.0.1".parse().unwrap()), None);
    }

    #[test]
    fn an_address_is_the_same_in_every_proxy_for_ever() {
        assert_eq!(VirtualAddress::home(&name("cart.shop")).v4().to_string(), "251.48.76.19");
    }

    #[test]
    fn every_address_is_of_the_virtual_ranges_and_belongs_to_one_name() {
        let addresses = VirtualAddresses::new();
        let all: std::collections::HashSet<_> =
            (0..20_000).map(|n| addresses.address(&name(&format!("s{n}.x")))).collect();
        assert_eq!(all.len(), 20_000);
        for address in all {
            assert!(is_virtual(address.v4().into()) && is_virtual(address.v6().into()), "{address:?}");
            assert!(!matches!(address.v4().octets()[3], 0 | 255));
        }
    }

    #[test]
    fn the_name_that_was_not_used_for_longest_makes_room() {
        let addresses = VirtualAddresses::with_max(2);
        let a = addresses.address(&name("a.x"));
        let b = addresses.address(&name("b.x"));
        addresses.name(a.v4().into());
        addresses.address(&name("c.x"));
        assert_eq!((addresses.name(b.v4().into()), addresses.len()), (None, 2));
        assert_eq!(addresses.name(a.v4().into()), Some(name("a.x")));
    }

    #[test]
    fn addresses_of_the_world_are_not_virtual() {
        for address in ["10.0.0.1", "239.255.255.255", "255.255.255.255", "::1", "fd00::1", "::ffff:10.0.0.1"] {
            assert!(!is_virtual(address.parse().unwrap()), "{address}");
        }
        assert!(is_virtual("::ffff:240.0.0.1".parse().unwrap()));
    }
}
