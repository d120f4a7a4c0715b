//! Turns a question into a DNS message, and a DNS message into what it answers. Nothing is sent
//! here. [`super::ask`] decides what follows from an answer.

use simple_dns::rdata::RData;
use simple_dns::{CLASS, Name, Packet, PacketFlag, QCLASS, QTYPE, Question, RCODE, TYPE};
use std::net::IpAddr;

/// The most aliases (CNAME) that are followed from a name: within one message, and again from
/// message to message.
pub const MOST_ALIASES: usize = 8;

/// What a DNS message answers to a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DnsAnswer {
    /// What was asked for.
    Addresses {
        /// At least one, in the server's order, of the kind asked for.
        addresses: Vec<IpAddr>,
        /// The name that has them, if the one that was asked for is an alias of it.
        of: Option<String>,
    },
    /// Only an alias, whose own addresses are to be asked for.
    Alias(String),
    /// An alias that leads back to the name itself.
    Circle,
    /// NXDOMAIN. The string is the name that does not exist, if the name asked for is an alias of
    /// it.
    NoSuchName(Option<String>),
    /// The name is known, but has no address of this kind.
    NoAddress,
    /// The answer did not fit the datagram, and must be asked for again over TCP.
    Truncated,
    /// SERVFAIL, REFUSED, …: another server may do better.
    Failed(&'static str),
}

/// The question for the addresses of `name`; `kind` is A or AAAA. It does without EDNS, which some
/// routers and firewalls swallow. Addresses fit 512 bytes, and longer answers come over TCP. `None`
/// if the name is too long.
pub fn query(id: u16, name: &str, kind: TYPE) -> Option<Vec<u8>> {
    let mut packet = Packet::new_query(id);
    packet.set_flags(PacketFlag::RECURSION_DESIRED);
    let name = Name::new(name).ok()?;
    packet.questions.push(Question::new(name, kind.into(), CLASS::IN.into(), false));
    packet.build_bytes_vec().ok()
}

/// `name` with its letters in upper or lower case by the low 48 bits of `coin`. A forger who has
/// not seen the question must guess them too (draft-vixie-dnsext-dns0x20).
pub fn spelled(name: &str, coin: u64) -> String {
    let mut tosses = (0..48).map(|toss| coin >> toss & 1 == 1);
    let mut large = |c: char| c.is_ascii_alphabetic() && tosses.next() == Some(true);
    name.chars().map(|c| if large(c) { c.to_ascii_uppercase() } else { c }).collect()
}

/// Whether a reply repeats the question of `query`, letter by letter.
pub fn echoes(reply: &[u8], query: &[u8]) -> bool {
    const HEADER: usize = 12;
    let question = query.get(HEADER..).unwrap_or_default();
    reply.get(HEADER..).is_some_and(|asked| asked.starts_with(question))
}

/// What `bytes` answer to this question; `None` if they do not answer it (garbage, or an answer to
/// another question). Case does not matter here, because some servers change it.
pub fn answer(bytes: &[u8], id: u16, name: &str, kind: TYPE) -> Option<DnsAnswer> {
    // Only the question and the answers are of use, so nothing odd in the rest can spoil them.
    let mut bytes = bytes.to_vec();
    bytes.get_mut(8..12)?.fill(0);

    // The library makes room for as many answers as the header claims; each takes 11 bytes or more.
    let claimed = u16::from_be_bytes(*bytes.get(6..)?.first_chunk()?);
    let whole = usize::from(claimed) * 11 <= bytes.len() && Packet::parse(&bytes).is_ok();
    if !whole {
        // Some servers cut a long answer off in the middle of a record.
        bytes.get_mut(6..8)?.fill(0);
    }

    let packet = Packet::parse(&bytes).ok()?;
    let [question] = packet.questions.as_slice() else {
        return None;
    };

    let name = Name::new(name).ok()?;
    let ours = packet.has_flags(PacketFlag::RESPONSE)
        && packet.id() == id
        && question.qname == name
        && question.qtype == QTYPE::TYPE(kind)
        && question.qclass == QCLASS::CLASS(CLASS::IN);
    if !ours {
        return None;
    }

    let truncated = packet.has_flags(PacketFlag::TRUNCATION);
    // Follow the aliases that came along; the last name is what the rest is about.
    let mut owner = name.clone();
    let mut aliases = 0;
    for _ in 0..MOST_ALIASES {
        let alias = packet.answers.iter().find_map(|record| match &record.rdata {
            RData::CNAME(alias) if record.name == owner => Some(alias.0.clone()),
            _ => None,
        });

        match alias {
            Some(alias) => {
                owner = alias;
                aliases += 1;
            }
            None => break,
        }
    }

    // An alias that cannot be asked for is garbage.
    let alias = (owner != name).then(|| owner.to_string().to_ascii_lowercase());
    let alias = alias.filter(|alias| query(0, alias, kind).is_some());

    // Only the four bits in the header count. The library adds reserved bits of an OPT record,
    // which was never asked for and which some middlebox may fill.
    match RCODE::from(u16::from(bytes.get(3)? & 0x0f)) {
        RCODE::NoError => {}
        RCODE::NameError => return Some(DnsAnswer::NoSuchName(alias)),
        RCODE::ServerFailure => return Some(DnsAnswer::Failed("SERVFAIL")),
        RCODE::Refused => return Some(DnsAnswer::Failed("REFUSED")),
        RCODE::FormatError => return Some(DnsAnswer::Failed("FORMERR")),
        RCODE::NotImplemented => return Some(DnsAnswer::Failed("NOTIMP")),
        _ => return Some(DnsAnswer::Failed("an error")),
    }

    if !whole {
        return truncated.then_some(DnsAnswer::Truncated);
    }

    let addresses: Vec<IpAddr> = packet
        .answers
        .iter()
        .filter(|record| record.name == owner && record.class == CLASS::IN)
        .filter_map(|record| match (&record.rdata, kind) {
            (RData::A(a), TYPE::A) => Some(IpAddr::V4(a.address.into())),
            (RData::AAAA(aaaa), TYPE::AAAA) => Some(IpAddr::V6(aaaa.address.into())),
            _ => None,
        })
        .collect();

    Some(match (addresses.is_empty(), alias) {
        // Of an answer that was cut short, the addresses that arrived are good.
        (false, of) => DnsAnswer::Addresses { addresses, of },
        (true, _) if truncated => DnsAnswer::Truncated,
        (true, _) if owner == name && aliases > 0 => DnsAnswer::Circle,
        (true, _) if owner == name => DnsAnswer::NoAddress,
        (true, alias) => DnsAnswer::Alias(alias?),
    })
}

#[cfg(test)]
pub mod test {
    //! Messages as name servers send them.
    use super::*;
    use simple_dns::ResourceRecord;
    use simple_dns::rdata::{A, AAAA, CNAME};

    /// The reply to a question, without a record, and then changed.
    pub fn reply(
        id: u16,
        name: &str,
        kind: TYPE,
        change: impl FnOnce(&mut Packet<'static>),
    ) -> Vec<u8> {
        let mut packet = Packet::new_reply(id);
        let name = Name::new(name).unwrap().into_owned();
        packet.questions.push(Question::new(name, kind.into(), CLASS::IN.into(), false));
        change(&mut packet);
        packet.build_bytes_vec_compressed().unwrap()
    }

    /// An A or AAAA record.
    pub fn address(of: &str, address: &str) -> ResourceRecord<'static> {
        record(
            of,
            match address.parse().unwrap() {
                IpAddr::V4(v4) => RData::A(A { address: v4.into() }),
                IpAddr::V6(v6) => RData::AAAA(AAAA { address: v6.into() }),
            },
        )
    }

    /// A CNAME record.
    pub fn alias(from: &str, to: &str) -> ResourceRecord<'static> {
        record(from, RData::CNAME(CNAME(Name::new(to).unwrap().into_owned())))
    }

    /// Any record.
    pub fn record(of: &str, data: RData<'static>) -> ResourceRecord<'static> {
        ResourceRecord::new(Name::new(of).unwrap().into_owned(), CLASS::IN, 60, data)
    }
}

#[cfg(test)]
mod tests {
    use super::test::{address, alias, record};
    use super::*;
    use simple_dns::rdata::NULL;

    const NAME: &str = "fs-1.efs.eu-west-1.amazonaws.com";

    fn reply(change: impl FnOnce(&mut Packet<'static>)) -> Vec<u8> {
        test::reply(7, NAME, TYPE::A, change)
    }

    fn read(bytes: &[u8]) -> Option<DnsAnswer> {
        answer(bytes, 7, NAME, TYPE::A)
    }

    fn addresses<const N: usize>(addresses: [&str; N]) -> Option<DnsAnswer> {
        let addresses = addresses.map(|a| a.parse().unwrap()).to_vec();
        Some(DnsAnswer::Addresses { addresses, of: None })
    }

    /// The same, found through an alias.
    fn addresses_of<const N: usize>(name: &str, addresses: [&str; N]) -> Option<DnsAnswer> {
        let addresses = addresses.map(|a| a.parse().unwrap()).to_vec();
        Some(DnsAnswer::Addresses { addresses, of: Some(name.into()) })
    }

    #[test]
    fn addresses_come_in_order_through_aliases_and_only_for_the_name_asked() {
        let bytes = reply(|p| {
            p.answers.push(alias("b.example", "C.example"));
            p.answers.push(alias(NAME, "B.example"));
            p.answers.push(address("other.example", "10.0.1.9"));
            p.answers.push(address("c.EXAMPLE", "10.0.1.2"));
            p.answers.push(address("c.example", "10.0.1.1"));
            p.answers.push(address("c.example", "10.0.1.3"));
        });
        let found = addresses_of("c.example", ["10.0.1.2", "10.0.1.1", "10.0.1.3"]);
        assert_eq!(read(&bytes), found);
    }

    #[test]
    fn an_address_of_another_kind_than_asked_for_is_none() {
        let both = |p: &mut Packet<'static>| {
            p.answers.push(address(NAME, "fd00::1"));
            p.answers.push(address(NAME, "10.0.1.1"));
        };
        assert_eq!(read(&reply(both)), addresses(["10.0.1.1"]));
        let bytes = test::reply(7, NAME, TYPE::AAAA, both);
        assert_eq!(answer(&bytes, 7, NAME, TYPE::AAAA), addresses(["fd00::1"]));
        let v6 = reply(|p| p.answers.push(address(NAME, "fd00::1")));
        assert_eq!(read(&v6), Some(DnsAnswer::NoAddress));
    }

    #[test]
    fn an_alias_without_an_address_is_asked_for_and_no_answer_is_no_address() {
        let bytes = reply(|p| p.answers.push(alias(NAME, "b.example")));
        assert_eq!(read(&bytes), Some(DnsAnswer::Alias("b.example".into())));
        assert_eq!(read(&reply(|_| {})), Some(DnsAnswer::NoAddress));
        let looped = reply(|p| {
            p.answers.push(alias(NAME, "b.example"));
            p.answers.push(alias("b.example", NAME));
        });
        assert_eq!(read(&looped), Some(DnsAnswer::Circle), "a loop leads nowhere");
    }

    #[test]
    fn an_alias_of_a_name_that_does_not_exist_is_told_with_that_name() {
        let bytes = reply(|p| {
            p.answers.push(alias(NAME, "b.example"));
            *p.rcode_mut() = RCODE::NameError;
        });
        assert_eq!(read(&bytes), Some(DnsAnswer::NoSuchName(Some("b.example".into()))));
    }

    #[test]
    fn response_codes_and_truncation_are_told_apart() {
        for (rcode, expected) in [
            (RCODE::NameError, DnsAnswer::NoSuchName(None)),
            (RCODE::ServerFailure, DnsAnswer::Failed("SERVFAIL")),
            (RCODE::Refused, DnsAnswer::Failed("REFUSED")),
            (RCODE::FormatError, DnsAnswer::Failed("FORMERR")),
            (RCODE::NotImplemented, DnsAnswer::Failed("NOTIMP")),
            (RCODE::YXDOMAIN, DnsAnswer::Failed("an error")),
        ] {
            assert_eq!(read(&reply(|p| *p.rcode_mut() = rcode)), Some(expected));
        }
        // An OPT record that nobody asked for, with reserved bits, changes none of them.
        let mut bytes = reply(|p| *p.rcode_mut() = RCODE::NameError);
        bytes[11] = 1;
        bytes.extend([0, 0, 41, 4, 0xd0, 0, 0, 0x80, 0x03, 0, 0]);
        assert_eq!(read(&bytes), Some(DnsAnswer::NoSuchName(None)));
        let cut = reply(|p| p.set_flags(PacketFlag::TRUNCATION));
        assert_eq!(read(&cut), Some(DnsAnswer::Truncated));
        let some = reply(|p| {
            p.set_flags(PacketFlag::TRUNCATION);
            p.answers.push(address(NAME, "10.0.1.1"));
        });
        assert_eq!(read(&some), addresses(["10.0.1.1"]), "some are enough");
    }

    #[test]
    fn an_answer_cut_off_inside_a_record_is_truncated_if_it_says_so_and_else_none() {
        let bytes = |flags| {
            let two = reply(|p| {
                p.set_flags(flags);
                p.answers.push(address(NAME, "10.0.1.1"));
                p.answers.push(address(NAME, "10.0.1.2"));
            });
            two[..two.len() - 5].to_vec()
        };
        assert_eq!(read(&bytes(PacketFlag::TRUNCATION)), Some(DnsAnswer::Truncated));
        assert_eq!(read(&bytes(PacketFlag::empty())), None);
        let mut claims = reply(|p| p.answers.push(address(NAME, "10.0.1.1")));
        claims[6..8].fill(0xff);
        assert_eq!(read(&claims), None, "65,535 answers in 80 bytes");
    }

    #[test]
    fn what_is_odd_beside_the_answers_does_no_harm() {
        let mut bytes = reply(|p| {
            p.answers.push(record(NAME, RData::NULL(65_000, NULL::new(b"new").unwrap())));
            p.answers.push(address(NAME, "10.0.1.1"));
        });
        // The header claims a record that cannot be read, and one that never came.
        bytes[9] = 1;
        bytes[11] = 1;
        bytes.extend([0xff; 7]);
        assert_eq!(read(&bytes), addresses(["10.0.1.1"]));
    }

    #[test]
    fn what_does_not_answer_our_question_is_passed_over() {
        let good = reply(|p| p.answers.push(address(NAME, "10.0.1.1")));
        assert!(read(&good).is_some());
        assert_eq!(answer(&good, 8, NAME, TYPE::A), None, "another id");
        assert_eq!(answer(&good, 7, "x.example", TYPE::A), None, "another name");
        assert_eq!(answer(&good, 7, NAME, TYPE::AAAA), None, "another kind");
        assert_eq!(read(&query(7, NAME, TYPE::A).unwrap()), None, "a query is no answer");
        let upper = NAME.to_ascii_uppercase();
        assert_eq!(answer(&good, 7, &upper, TYPE::A), read(&good), "any case");
        let two = reply(|p| p.questions.extend(p.questions.clone()));
        assert_eq!(read(&two), None, "two questions");
    }

    #[test]
    fn no_message_makes_the_reader_panic() {
        let good = reply(|p| {
            p.answers.push(alias(NAME, "b.example"));
            p.answers.push(address("b.example", "10.0.1.1"));
            p.answers.push(address("b.example", "fd00::1"));
        });
        let mut random = crate::testing::names::Random::new(1);
        for _ in 0..100_000 {
            let mut bytes = good.clone();
            for _ in 0..=random.below(4) {
                let at = random.below(bytes.len());
                bytes[at] = random.below(256) as u8;
            }
            bytes.truncate(bytes.len() - random.below(20));
            read(&bytes);
        }
        for size in 0..good.len() {
            read(&good[..size]);
        }
    }
}
