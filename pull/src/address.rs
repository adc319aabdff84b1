//! Which addresses belong to the public internet, and a resolver that gives no others.
//!
//! The client connects to the very addresses that were checked here, for each hop again, so a name that
//! changes its address between two look-ups opens no way round.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use serde::{Deserialize, Serialize};
use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;

/// Whose private addresses may be followed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum AllowPrivate {
    /// No private address is followed.
    #[default]
    No,
    /// Those of these hosts, `HOST` or `HOST:PORT` as they stand in addresses.
    Hosts(Vec<String>),
    /// All private addresses are followed.
    All,
}

impl AllowPrivate {
    fn lets(&self, uri: &Uri) -> bool {
        let host = uri.host().unwrap_or_default();
        let is = |allowed: &String| {
            let port = allowed.strip_prefix(host).and_then(|rest| rest.strip_prefix(':'));
            allowed.eq_ignore_ascii_case(host) || port.is_some_and(|p| p.parse().ok() == uri.port_u16())
        };
        match self {
            AllowPrivate::No => false,
            AllowPrivate::Hosts(hosts) => hosts.iter().any(is),
            AllowPrivate::All => true,
        }
    }
}

/// A host has no public address.
#[derive(Debug, thiserror::Error)]
#[error("{host} has the private address {address}; --allow-private lets it through")]
pub(super) struct Private {
    host: String,
    address: IpAddr,
}

/// Looks names up; private addresses are left out unless they are allowed.
#[derive(Debug)]
pub(super) struct PublicResolver {
    inner: DefaultResolver,
    allow: AllowPrivate,
}

impl PublicResolver {
    pub fn new(allow: AllowPrivate) -> Self {
        Self { inner: DefaultResolver::default(), allow }
    }
}

impl Resolver for PublicResolver {
    fn resolve(
        &self,
        uri: &Uri,
        config: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let found = self.inner.resolve(uri, config, timeout)?;
        if self.allow.lets(uri) {
            return Ok(found);
        }
        let mut public = self.empty();
        found.iter().filter(|a| is_public(a.ip())).for_each(|a| public.push(*a));
        match found.iter().map(SocketAddr::ip).next() {
            Some(address) if public.is_empty() => {
                let host = uri.host().unwrap_or_default().to_owned();
                Err(ureq::Error::Other(Box::new(Private { host, address })))
            }
            _ => Ok(public),
        }
    }
}

/// Whether an address is one of the public internet: none of the special-purpose blocks of the IANA
/// registries (RFC 6890 and its updates), nor multicast.
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => is_public_v4(v4),
        IpAddr::V6(v6) => is_public_v6(v6),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    const SPECIAL: [(Ipv4Addr, u32); 16] = [
        (Ipv4Addr::new(0, 0, 0, 0), 8),
        (Ipv4Addr::new(10, 0, 0, 0), 8),
        (Ipv4Addr::new(100, 64, 0, 0), 10),
        (Ipv4Addr::new(127, 0, 0, 0), 8),
        (Ipv4Addr::new(169, 254, 0, 0), 16),
        (Ipv4Addr::new(172, 16, 0, 0), 12),
        (Ipv4Addr::new(192, 0, 0, 0), 24),
        (Ipv4Addr::new(192, 0, 2, 0), 24),
        (Ipv4Addr::new(192, 31, 196, 0), 24),
        (Ipv4Addr::new(192, 52, 193, 0), 24),
        (Ipv4Addr::new(192, 88, 99, 0), 24),
        (Ipv4Addr::new(192, 168, 0, 0), 16),
        (Ipv4Addr::new(198, 18, 0, 0), 15),
        (Ipv4Addr::new(198, 51, 100, 0), 24),
        (Ipv4Addr::new(203, 0, 113, 0), 24),
        // Multicast, reserved and broadcast.
        (Ipv4Addr::new(224, 0, 0, 0), 3),
    ];
    let bits = address.to_bits();
    !SPECIAL.iter().any(|(block, length)| (bits ^ block.to_bits()) >> (32 - length) == 0)
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    if let Some(v4) = embedded_v4(address) {
        return is_public_v4(v4);
    }
    let s = address.segments();
    // Only 2000::/3 is given out as global unicast; these blocks of it are special.
    let special = s[0] == 0x2001 && (s[1] < 0x0200 || s[1] == 0x0db8) || s[0] == 0x3fff && s[1] < 0x1000;
    s[0] & 0xe000 == 0x2000 && !special
}

/// The IPv4 address that an IPv6 address leads to: mapped, compatible, translated (64:ff9b::/96) or 6to4.
fn embedded_v4(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let s = address.segments();
    let pair = |high: u16, low: u16| Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low));
    match s {
        [0, 0, 0, 0, 0, 0 | 0xffff, h, l] => Some(pair(h, l)),
        [0, 0, 0, 0, 0xffff, 0, h, l] => Some(pair(h, l)),
        [0x64, 0xff9b, 0, 0, 0, 0, h, l] => Some(pair(h, l)),
        [0x2002, h, l, ..] => Some(pair(h, l)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_allowed_by_name_and_port() {
        let allow = AllowPrivate::Hosts(vec!["127.0.0.1:80".into(), "Mirror.local".into(), "[::1]".into()]);
        let lets = |uri: &'static str| allow.lets(&Uri::from_static(uri));
        assert!(
            lets("http://127.0.0.1:80/x") && lets("https://mirror.local:8443/") && lets("http://[::1]:9/")
        );
        assert!(
            !lets("http://127.0.0.1:81/") && !lets("http://127.0.0.1/") && !lets("http://a.mirror.local/")
        );
        assert!(AllowPrivate::All.lets(&Uri::from_static("http://10.0.0.1/")));
    }

    #[test]
    fn special_purpose_addresses_are_not_public() {
        let private = "0.0.0.0 0.1.2.3 10.0.0.1 10.255.255.255 100.64.0.1 100.127.255.255 127.0.0.1 127.9.9.9 \
            169.254.169.254 172.16.0.1 172.31.255.255 192.0.0.170 192.0.2.1 192.88.99.1 192.168.1.1 198.18.0.1 \
            198.19.255.255 198.51.100.7 203.0.113.9 224.0.0.1 239.255.255.255 240.0.0.1 255.255.255.255 \
            :: ::1 ::127.0.0.1 ::ffff:127.0.0.1 ::ffff:10.1.2.3 ::ffff:0:10.0.0.1 64:ff9b::a00:1 64:ff9b:1::1 100::1 \
            2001::1 2001:10::1 2001:db8::1 2002:7f00:1::1 2002:a00:1::1 3fff:1::1 5f00::1 fc00::1 fd12::1 fe80::1 \
            fec0::1 ff02::1";
        for address in private.split_whitespace() {
            assert!(!is_public(address.parse().unwrap()), "{address}");
        }
        let public = "1.1.1.1 9.255.255.255 11.0.0.0 100.63.255.255 100.128.0.0 126.255.255.255 128.0.0.1 \
            169.253.255.255 172.15.255.255 172.32.0.0 192.167.255.255 192.169.0.0 198.17.255.255 198.20.0.0 \
            223.255.255.255 2606:4700::1111 2a00:1450:4001::1 2001:4860::8888 ::ffff:1.1.1.1 64:ff9b::101:101 \
            2002:101:101::1";
        for address in public.split_whitespace() {
            assert!(is_public(address.parse().unwrap()), "{address}");
        }
    }
}
