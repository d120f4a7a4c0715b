//! The look-up as a whole, against scripted name servers: what comes of each
//! fault, what it costs, and what holds whatever they do.

use super::ask::{BREATH, BURST, TCP, TURN};
use super::message::MOST_ALIASES;
use super::message::test::{address as record, alias, reply};
use super::*;
use crate::stop::SystemClock;
use crate::testing::names::{Does, NameServers, Query, Random, TRIP, refused, says, silence};
use simple_dns::{Packet, PacketFlag, RCODE, TYPE};
use std::cell::Cell;
use std::fs;
use std::net::UdpSocket;

const NAME: &str = "fs-1.efs.eu-west-1.amazonaws.com";
const FIRST: &str = "10.0.0.2";
const SECOND: &str = "10.0.0.3";
const ONE: &str = "nameserver 10.0.0.2\n";
const TWO: &str = "nameserver 10.0.0.2\nnameserver 10.0.0.3\n";
/// How long an attempt gives the name.
const WINDOW: Duration = Duration::from_secs(3);
/// The address that a lying server gives, or a forger of answers.
const FORGED: &str = "6.6.6.6";

fn millis(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn is(query: &Query, server: &str) -> bool {
    query.to == ip(server)
}

/// One line of it: the addresses and who said so, or the error's sentence.
fn told(result: Result<Found, NameError>) -> String {
    match result {
        Ok(Found { addresses, by, .. }) => {
            let addresses: Vec<String> = addresses.iter().map(IpAddr::to_string).collect();
            format!("{} by {by}", addresses.join(" "))
        }
        Err(e) => e.to_string(),
    }
}

/// Looks NAME up in [`WINDOW`]; the outcome, how long it took, and how many datagrams were sent.
fn look_up(world: &NameServers<'_>) -> (String, Duration, usize) {
    look_up_name(world, NAME)
}

fn look_up_name(world: &NameServers<'_>, name: &str) -> (String, Duration, usize) {
    let before = world.queries().len();
    let (result, took) = world.look_up(name, WINDOW);
    let sent = world.queries().iter().skip(before).filter(|q| !q.by_tcp).count();
    (told(result), took, sent)
}

/// What is demanded of a look-up: its outcome, its time in milliseconds, its datagrams.
fn outcome(text: &str, took: u64, sent: usize) -> (String, Duration, usize) {
    (text.to_owned(), millis(took), sent)
}

const GOOD: &str = "10.0.1.12 by name server 10.0.0.2";
/// What the sentence adds about a name that a search domain has completed.
const COMPLETED: &str = ", which knows it as files.b.example, by a search domain";
/// A name of no known kind, with dots.
const OTHER: &str = "nfs.lab.example";
const GOOD_BY_SECOND: &str = "10.0.1.12 by name server 10.0.0.3";

fn good(query: &Query) -> Vec<Does> {
    says(query.addresses(&["10.0.1.12"]))
}

// ---- files ----

#[test]
fn no_resolv_conf_or_one_that_names_no_server_is_told_at_once() {
    let root = tempfile::tempdir().unwrap();
    let world = NameServers::new("", good);
    let told = || {
        let (result, took) = world.resolve(root.path(), NAME, WINDOW);
        assert_eq!((took, world.queries().len()), (Duration::ZERO, 0));
        told(result)
    };
    assert_eq!(told(), "/etc/resolv.conf does not exist");
    fs::create_dir_all(root.path().join("etc/resolv.conf")).unwrap();
    assert_eq!(told(), "/etc/resolv.conf cannot be read");
    fs::remove_dir(root.path().join("etc/resolv.conf")).unwrap();
    for text in ["", "\n# none yet\nsearch example\n"] {
        fs::write(root.path().join("etc/resolv.conf"), text).unwrap();
        assert_eq!(told(), "/etc/resolv.conf names no name server", "{text:?}");
    }
    fs::write(root.path().join("etc/resolv.conf"), "nameserver\nnameserver 10.0.1.300\n").unwrap();
    assert_eq!(told(), "/etc/resolv.conf has no address in its `nameserver` lines");
}

#[test]
fn hosts_come_before_name_servers_and_both_files_are_read_anew_each_time() {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir(root.path().join("etc")).unwrap();
    let write = |file: &str, text: &str| fs::write(root.path().join(file), text).unwrap();
    let world = NameServers::new("", good);
    let told = || {
        let (result, took) = world.resolve(root.path(), NAME, WINDOW);
        (told(result), took, world.queries().len())
    };
    write("etc/resolv.conf", ONE);
    assert_eq!(told(), outcome(GOOD, 1, 1));
    write("etc/hosts", &format!("fd00::9 {NAME}\n127.0.0.1 x {}.\n", NAME.to_uppercase()));
    assert_eq!(told(), outcome("127.0.0.1 fd00::9 by /etc/hosts", 0, 1));
    write("etc/hosts", &format!("\0\0\0127.0.0.1 {NAME}\0\n"));
    assert_eq!(told(), outcome("127.0.0.1 by /etc/hosts", 0, 1), "as a crash may leave it");
    write("etc/hosts", &format!("0.0.0.0 {NAME}\n"));
    let blocked = "/etc/hosts says 0.0.0.0, which cannot be a server's address";
    assert_eq!(told(), outcome(blocked, 0, 1));
    write("etc/hosts", "127.0.0.1 localhost\n");
    write("etc/resolv.conf", "nameserver 10.0.0.3\n");
    assert_eq!(told(), outcome(GOOD_BY_SECOND, 1, 2));
}

#[test]
fn an_interface_has_a_number_or_is_one() {
    assert!(scope("lo").is_some_and(|number| number > 0));
    assert_eq!((scope("7"), scope("none such")), (Some(7), None));
}

// ---- servers that do not answer ----

#[test]
fn an_absent_name_server_is_told_at_once() {
    let world = NameServers::new(ONE, |_| refused());
    let text = "name server 10.0.0.2 cannot be reached: connection refused (ECONNREFUSED)";
    assert_eq!(look_up(&world), outcome(text, 1, 1));
    let world = NameServers::new(TWO, |_| vec![Does::Fail(Duration::ZERO, Errno::ENETUNREACH)]);
    let text = "name server 10.0.0.2 cannot be reached: network is unreachable (ENETUNREACH); name server 10.0.0.3 cannot \
                be reached: network is unreachable (ENETUNREACH)";
    assert_eq!(look_up(&world), outcome(text, 0, 2));
    assert!(world.look_up(NAME, WINDOW).0.unwrap_err().costs_nobody());
    // Of two, one is asked, or turns the question down where it is: it is not to be asked without pause.
    for second in [refused, silence] {
        let world = NameServers::new(TWO, move |q| match is(q, FIRST) {
            true => vec![Does::Fail(Duration::ZERO, Errno::ENETUNREACH)],
            false => second(),
        });
        let error = world.look_up(NAME, WINDOW).0.unwrap_err();
        assert!(!error.costs_nobody(), "{error}");
        assert!(error.to_string().contains("name server 10.0.0.3"), "{error}");
    }
}

#[test]
fn a_silent_name_server_costs_the_time_there_is_and_no_more() {
    let world = NameServers::new(ONE, |_| silence());
    assert_eq!(
        look_up(&world),
        outcome("no answer from name server 10.0.0.2 within 3.0 s", 3000, 10)
    );
    let world = NameServers::new(TWO, |_| silence());
    let text = "no answer from name server 10.0.0.2 or 10.0.0.3 within 3.0 s";
    assert_eq!(look_up(&world), outcome(text, 3000, 10));
}

#[test]
fn a_name_server_slow_by_two_seconds_is_waited_for() {
    let slow = |q: &Query| vec![Does::Send(millis(2000), q.addresses(&["10.0.1.12"]))];
    assert_eq!(look_up(&NameServers::new(ONE, slow)), outcome(GOOD, 2000, 7));
    let first_slow = |q: &Query| if is(q, FIRST) { slow(q) } else { silence() };
    assert_eq!(look_up(&NameServers::new(TWO, first_slow)), outcome(GOOD, 2000, 7));
}

#[test]
fn a_lost_packet_costs_300_ms_and_two_cost_600() {
    for lost in 0..=2 {
        let world = NameServers::new(ONE, |q| if q.repeats < lost { silence() } else { good(q) });
        let lost = lost as u64;
        assert_eq!(look_up(&world), outcome(GOOD, lost * 300 + 1, lost as usize + 1));
    }
}

#[test]
fn a_first_server_that_is_dead_costs_300_ms_and_one_that_refuses_or_fails_nothing() {
    let second_is_good = |first: fn(&Query) -> Vec<Does>| {
        look_up(&NameServers::new(TWO, move |q| if is(q, FIRST) { first(q) } else { good(q) }))
    };
    assert_eq!(second_is_good(|_| silence()), outcome(GOOD_BY_SECOND, 301, 2));
    assert_eq!(second_is_good(|_| refused()), outcome(GOOD_BY_SECOND, 2, 2));
    assert_eq!(
        second_is_good(|q| says(q.code(RCODE::ServerFailure))),
        outcome(GOOD_BY_SECOND, 2, 2)
    );
    assert_eq!(second_is_good(|q| says(q.code(RCODE::Refused))), outcome(GOOD_BY_SECOND, 2, 2));
    let no_route = |_: &Query| vec![Does::Fail(Duration::ZERO, Errno::ENETUNREACH)];
    assert_eq!(second_is_good(no_route), outcome(GOOD_BY_SECOND, 1, 2));
}

#[test]
fn a_glance_of_150_ms_asks_every_server() {
    let three = format!("{TWO}nameserver 10.0.0.4\n");
    let world = NameServers::new(&three, |q| if is(q, "10.0.0.4") { good(q) } else { silence() });
    let (result, took) = world.look_up(NAME, millis(150));
    assert_eq!(told(result), "10.0.1.12 by name server 10.0.0.4");
    assert_eq!(took, millis(150) / 4 * 2 + TRIP);
    let (result, took) = NameServers::new(&three, |_| silence()).look_up(NAME, Duration::ZERO);
    assert_eq!(told(result), "no answer from name server 10.0.0.2 within 0.0 s", "of those asked");
    assert_eq!(took, Duration::ZERO);
    // However short the time is, each turn takes some of it.
    let world = NameServers::new(&three, |_| silence());
    let (_, took) = world.look_up(NAME, Duration::from_nanos(3));
    assert_eq!((took, world.queries().len()), (Duration::from_nanos(3), 1));
}

#[test]
fn a_server_that_comes_up_is_asked_again_while_another_keeps_us_waiting() {
    let starting = |q: &Query| match (is(q, FIRST), q.at < millis(500)) {
        (true, true) => refused(),
        (true, false) => good(q),
        (false, _) => silence(),
    };
    // Refused at 0 and 301 ms, good at 901: in between it is the silent one's turn.
    assert_eq!(look_up(&NameServers::new(TWO, starting)), outcome(GOOD, 902, 5));
}

// ---- servers that say no ----

#[test]
fn servfail_and_refused_are_told_at_once() {
    for (code, word) in [(RCODE::ServerFailure, "SERVFAIL"), (RCODE::Refused, "REFUSED")] {
        let world = NameServers::new(ONE, |q| says(q.code(code)));
        assert_eq!(look_up(&world), outcome(&format!("name server 10.0.0.2 answers {word}"), 1, 1));
        // With a second server that is silent, the first is asked again in turn; its answer counts more.
        let world =
            NameServers::new(TWO, |q| if is(q, FIRST) { says(q.code(code)) } else { silence() });
        let (text, took, sent) = look_up(&world);
        assert_eq!(text, format!("name server 10.0.0.2 answers {word}"));
        assert_eq!((took, sent), (WINDOW, 11));
    }
    let world = NameServers::new(TWO, |q| match is(q, FIRST) {
        true => refused(),
        false => says(q.code(RCODE::Refused)),
    });
    assert_eq!(look_up(&world), outcome("name server 10.0.0.3 answers REFUSED", 2, 2));
}

#[test]
fn refused_silent_or_dead_for_aaaa_costs_no_a_that_is_there() {
    let bad: [fn(&Query) -> Vec<Does>; 4] = [
        |q| says(q.code(RCODE::Refused)),
        |q| says(q.code(RCODE::NameError)),
        |_| silence(),
        |q| says(q.addresses(&["fd00:dead::1"])),
    ];
    for bad in bad {
        let world = NameServers::new(ONE, |q| if q.kind == TYPE::AAAA { bad(q) } else { good(q) });
        assert_eq!(look_up(&world), outcome(GOOD, 1, 1));
    }
}

#[test]
fn without_an_ipv4_address_the_ipv6_one_counts_and_else_that_there_is_none() {
    let v6 = |q: &Query| says(q.addresses(&["fd00::1"]));
    assert_eq!(
        look_up(&NameServers::new(ONE, v6)),
        outcome("fd00::1 by name server 10.0.0.2", 2, 2)
    );
    let none = "name server 10.0.0.2 knows the name, but no address for it";
    assert_eq!(look_up(&NameServers::new(ONE, |q| says(q.addresses(&[])))), outcome(none, 2, 2));
    for code in [RCODE::Refused, RCODE::NameError] {
        let world = NameServers::new(ONE, |q| match q.kind {
            TYPE::A => says(q.addresses(&[])),
            _ => says(q.code(code)),
        });
        assert_eq!(look_up(&world), outcome(none, 2, 2), "{code:?}");
    }
    let world =
        NameServers::new(
            ONE,
            |q| if q.kind == TYPE::A { says(q.addresses(&[])) } else { silence() },
        );
    assert_eq!(look_up(&world), outcome(none, 3000, 11));
}

#[test]
fn nxdomain_is_final_even_if_another_server_knows_the_name() {
    let text = "name server 10.0.0.2 says that there is no such name (NXDOMAIN)";
    let world =
        NameServers::new(
            TWO,
            |q| if is(q, FIRST) { says(q.code(RCODE::NameError)) } else { good(q) },
        );
    assert_eq!(look_up(&world), outcome(text, 1, 1));
}

#[test]
fn nxdomain_that_turns_good_after_five_seconds_is_found_by_the_next_look_up() {
    let world = NameServers::new(ONE, |q| {
        if q.at < millis(5000) { says(q.code(RCODE::NameError)) } else { good(q) }
    });
    let text = "name server 10.0.0.2 says that there is no such name (NXDOMAIN)";
    while world.now() < millis(5000) {
        assert_eq!(look_up(&world), outcome(text, 1, 1));
        world.wait(millis(100)).unwrap();
    }
    assert_eq!(look_up(&world), outcome(GOOD, 1, 1), "nothing is kept of the look-ups before");
}

// ---- answers that are not straight ----

fn truncated(query: &Query) -> Vec<Does> {
    says(query.reply(|p| p.set_flags(PacketFlag::TRUNCATION)))
}

#[test]
fn a_truncated_answer_comes_whole_over_tcp() {
    let world =
        NameServers::new(ONE, truncated).tcp(|q| Some((millis(5), q.addresses(&["10.0.1.12"]))));
    assert_eq!(look_up(&world), outcome(GOOD, 6, 1));
}

#[test]
fn a_truncated_answer_with_an_address_in_it_is_enough() {
    let world = NameServers::new(ONE, |q| {
        says(q.reply(|p| {
            p.set_flags(PacketFlag::TRUNCATION);
            p.answers.push(record(NAME, "10.0.1.12"));
        }))
    });
    assert_eq!(look_up(&world), outcome(GOOD, 1, 1));
}

#[test]
fn a_truncated_answer_that_tcp_does_not_mend_is_another_servers_turn() {
    let text =
        "name server 10.0.0.2 answers with a truncated answer, and does not give it over TCP";
    let world = NameServers::new(ONE, truncated);
    assert_eq!(look_up(&world), outcome(text, 601, 1), "TCP 53 is silent");
    let world = NameServers::new(TWO, |q| if is(q, FIRST) { truncated(q) } else { good(q) });
    assert_eq!(look_up(&world), outcome(GOOD_BY_SECOND, 602, 2));
    // TCP may also bring garbage, an answer to another question, or the same half again.
    for bad in [
        |_: &Query| b"garbage".to_vec(),
        |q: &Query| Query { id: q.id ^ 1, ..q.clone() }.addresses(&[FORGED]),
        |q: &Query| q.reply(|p| p.set_flags(PacketFlag::TRUNCATION)),
    ] {
        let world = NameServers::new(ONE, truncated).tcp(|q| Some((millis(5), bad(q))));
        assert_eq!(look_up(&world), outcome(text, 6, 1));
    }
    let world = NameServers::new(ONE, truncated).tcp(|q| Some((millis(5), q.code(RCODE::Refused))));
    assert_eq!(look_up(&world), outcome("name server 10.0.0.2 answers REFUSED", 6, 1));
    // A server that truncates all its answers is not asked over TCP each time.
    let world = NameServers::new(TWO, |q| if is(q, FIRST) { truncated(q) } else { silence() });
    let (result, took, _) = look_up(&world);
    assert_eq!((result.as_str(), took), (text, WINDOW));
    assert_eq!(world.queries().iter().filter(|q| q.by_tcp).count(), 1);
}

#[test]
fn a_chain_of_aliases_is_followed_in_one_message_or_over_several() {
    let world = NameServers::new(ONE, |q| {
        says(q.reply(|p| {
            p.answers.push(alias(NAME, "b.example"));
            p.answers.push(alias("b.example", "c.example"));
            p.answers.push(record("c.example", "10.0.1.12"));
        }))
    });
    let good_by_alias = format!("{GOOD}, as an alias of c.example");
    assert_eq!(look_up(&world), outcome(&good_by_alias, 1, 1));
    let step = |q: &Query| match q.name.as_str() {
        NAME => says(q.alias("b.example")),
        "b.example" => says(q.alias("c.example")),
        _ => good(q),
    };
    assert_eq!(look_up(&NameServers::new(ONE, step)), outcome(&good_by_alias, 3, 3));
    // The first server is dead: that is found out once.
    let world = NameServers::new(TWO, |q| if is(q, FIRST) { silence() } else { step(q) });
    let by_second = format!("{GOOD_BY_SECOND}, as an alias of c.example");
    assert_eq!(look_up(&world), outcome(&by_second, 303, 4));
    // The alias ends at a name with IPv6 only.
    let world = NameServers::new(ONE, |q| match q.name.as_str() {
        NAME => says(q.alias("b.example")),
        _ => says(q.addresses(&["fd00::1"])),
    });
    assert_eq!(
        look_up(&world),
        outcome("fd00::1 by name server 10.0.0.2, as an alias of b.example", 3, 3)
    );
}

#[test]
fn a_chain_of_aliases_without_end_is_no_address() {
    let none = "name server 10.0.0.2 has aliases without end for it";
    let mut n = 0;
    let world = NameServers::new(ONE, |q| {
        n += 1;
        says(q.alias(&format!("{n}.example")))
    });
    let most = MOST_ALIASES + 1;
    assert_eq!(look_up(&world), outcome(none, most as u64, most));
    let looped =
        NameServers::new(ONE, |q| says(q.alias(if q.name == NAME { "b.example" } else { NAME })));
    assert_eq!(look_up(&looped), outcome(none, 2, 2));
    let dangling = NameServers::new(ONE, |q| match q.name.as_str() {
        NAME => says(q.alias("b.example")),
        _ => says(q.code(RCODE::NameError)),
    });
    let text = "it is an alias of b.example, and name server 10.0.0.2 says that there is no such name (NXDOMAIN)";
    assert_eq!(look_up(&dangling), outcome(text, 2, 2));
    let at_once = NameServers::new(ONE, |q| {
        says(q.reply(|p| {
            p.answers.push(alias(NAME, "b.example"));
            *p.rcode_mut() = RCODE::NameError;
        }))
    });
    assert_eq!(look_up(&at_once), outcome(text, 1, 1));
    let empty = NameServers::new(ONE, |q| match q.name.as_str() {
        NAME => says(q.alias("b.example")),
        _ => says(q.addresses(&[])),
    });
    let text = "it is an alias of b.example, and name server 10.0.0.2 knows the name, but no address for it";
    assert_eq!(look_up(&empty), outcome(text, 3, 3));
}

#[test]
fn several_addresses_keep_the_servers_order_each_once_and_sixteen_at_most() {
    let world =
        NameServers::new(ONE, |q| says(q.addresses(&["10.0.9.9", "10.0.1.12", "10.0.9.9"])));
    assert_eq!(look_up(&world), outcome("10.0.9.9 10.0.1.12 by name server 10.0.0.2", 1, 1));
    let many: Vec<String> = (0..200).map(|n| format!("10.0.1.{n}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let world = NameServers::new(ONE, |q| says(q.addresses(&many)));
    let text = format!("{} by name server 10.0.0.2", many[..16].join(" "));
    assert_eq!(look_up(&world), outcome(&text, 1, 1));
}

#[test]
fn an_address_that_no_server_can_have_is_refused_and_loopback_only_from_dns() {
    for bad in ["0.0.0.0", "127.0.0.1", "224.0.0.1", "255.255.255.255", "::", "::1", "fe80::1"] {
        let world = NameServers::new(ONE, |q| says(q.addresses(&[bad])));
        let text = format!("name server 10.0.0.2 says {bad}, which cannot be a server's address");
        let trips = if bad.contains(':') { 2 } else { 1 };
        assert_eq!(look_up(&world), outcome(&text, trips, trips as usize));
        let world = NameServers::new(ONE, |q| says(q.addresses(&[bad, "10.0.1.12", "fd00::1"])));
        assert_eq!(look_up(&world), outcome(GOOD, 1, 1), "beside {bad}");
    }
    let mapped = NameServers::new(ONE, |q| says(q.addresses(&["::ffff:127.0.0.1"])));
    let text = "name server 10.0.0.2 says 127.0.0.1, which cannot be a server's address";
    assert_eq!(look_up(&mapped), outcome(text, 2, 2));
    let found = |address| Found::new(vec![ip(address)], By::Hosts);
    assert!(usable(found("127.0.0.1"), false).is_ok());
    assert!(usable(found("224.0.0.1"), false).is_err());
}

#[test]
fn names_are_asked_for_in_letters_that_a_forger_must_guess() {
    let world = NameServers::new(TWO, |_| silence());
    for _ in 0..10 {
        let _ = look_up(&world);
    }
    let queries = world.queries();
    let mut spelled: Vec<&str> = queries.iter().map(|q| q.spelled.as_str()).collect();
    let all = spelled.len();
    spelled.sort_unstable();
    spelled.dedup();
    // Repeated questions keep their letters; there are two servers and ten questions.
    assert_eq!(spelled.len(), 20, "of {all}: {spelled:?}");
    assert!(spelled.iter().all(|name| name.eq_ignore_ascii_case(NAME)));
    // Its own records may have any letters, and so may an alias on the way.
    let world = NameServers::new(ONE, |q| {
        says(q.reply(|p| {
            p.answers.push(alias(&q.name.to_uppercase(), "OTHER.example"));
            p.answers.push(record("other.EXAMPLE", "10.0.1.12"));
        }))
    });
    let by_alias = format!("{GOOD}, as an alias of other.example");
    assert_eq!(look_up(&world), outcome(&by_alias, 1, 1));
}

#[test]
fn an_answer_in_other_letters_is_asked_for_again_over_tcp() {
    let lower = |q: &Query| Query { spelled: q.name.clone(), ..q.clone() };
    let forged = |q: &Query| says(lower(q).addresses(&[FORGED]));
    // A server that spells as it likes does so over TCP too.
    let world =
        NameServers::new(ONE, forged).tcp(|q| Some((TRIP, lower(q).addresses(&["10.0.1.12"]))));
    assert_eq!(look_up(&world), outcome(GOOD, 2, 1));
    // What a forger brings about does not use up the question over TCP that a truncated answer needs.
    let first = Cell::new(true);
    let both = |q: &Query| {
        let truncated = Does::Send(TRIP * 2, truncated_bytes(q));
        [forged(q), vec![truncated]].concat()
    };
    let world = NameServers::new(ONE, both).tcp(|q| {
        let lost = first.replace(false);
        (!lost).then(|| (TRIP, q.addresses(&["10.0.1.12"])))
    });
    assert_eq!(look_up(&world).0, GOOD);
    // Without TCP nothing of it is believed, and the server is heard once it speaks for itself.
    let both = |q: &Query| [forged(q), good(q)].concat();
    assert_eq!(look_up(&NameServers::new(ONE, both)), outcome(GOOD, 601, 2));
    let (result, _, _) = look_up(&NameServers::new(ONE, forged));
    assert_eq!(
        result,
        "name server 10.0.0.2 answers with the name spelled in other letters than it was asked for, as a \
         forger would, and does not give it over TCP"
    );
}

// ---- garbage ----

/// What nobody asked for.
fn garbage(query: &Query) -> Vec<Vec<u8>> {
    let forged = |change: fn(&mut Query)| {
        let mut other = query.clone();
        change(&mut other);
        other.addresses(&[FORGED])
    };
    let mut cut = query.addresses(&["10.0.1.12"]);
    cut.truncate(cut.len() - 3);
    vec![
        vec![],
        vec![0],
        vec![0xff; 11],
        vec![0; 12],
        vec![0xa5; 500],
        vec![0; 9000],
        cut,
        query.bytes.clone(),
        forged(|q| q.id ^= 1),
        forged(|q| q.spelled = "fs-2.efs.eu-west-1.amazonaws.com".into()),
        forged(|q| q.kind = TYPE::TXT),
    ]
}

#[test]
fn garbage_packets_cost_nothing_and_end_nothing() {
    let junk = |q: &Query| -> Vec<Does> {
        garbage(q).into_iter().map(|bytes| Does::Send(TRIP, bytes)).collect()
    };
    let then_good = |q: &Query| [junk(q), good(q)].concat();
    assert_eq!(look_up(&NameServers::new(ONE, then_good)), outcome(GOOD, 1, 1));
    let silent = "no answer from name server 10.0.0.2 within 3.0 s";
    assert_eq!(look_up(&NameServers::new(ONE, junk)), outcome(silent, 3000, 10));
    let world = NameServers::new(TWO, |q| if is(q, FIRST) { junk(q) } else { good(q) });
    assert_eq!(look_up(&world), outcome(GOOD_BY_SECOND, 301, 2));
}

#[test]
fn a_flood_takes_neither_the_processor_nor_the_other_servers_answer() {
    let flood = |bytes: Vec<u8>| vec![Does::Flood(bytes)];
    let floods: [fn(&Query) -> Vec<u8>; 3] =
        [|_| vec![0xa5; 500], |q| q.code(RCODE::ServerFailure), |q| truncated_bytes(q)];
    for bytes in floods {
        // There is a silent server beside it, so that an error alone does not end the look-up.
        let world = NameServers::new(TWO, |q| {
            if is(q, FIRST) && q.repeats == 0 { flood(bytes(q)) } else { silence() }
        })
        .tcp(|_| None);
        let (_, took, sent) = look_up(&world);
        assert_eq!(took, WINDOW);
        assert!(sent <= 11, "{sent}");
        let pauses = (WINDOW.as_millis() / BREATH.as_millis()) as usize + sent;
        assert!(world.reads() <= (pauses + 1) * BURST, "{} reads", world.reads());
        // The other server is heard, at most one pause later.
        let world = NameServers::new(TWO, |q| {
            if is(q, FIRST) && q.repeats == 0 { flood(bytes(q)) } else { good(q) }
        });
        let (text, took, sent) = look_up(&world);
        assert_eq!((text.as_str(), sent), (GOOD_BY_SECOND, 2));
        assert!(took <= TCP + TURN + TRIP + BREATH, "{took:?}");
    }
}

fn truncated_bytes(query: &Query) -> Vec<u8> {
    query.reply(|p| p.set_flags(PacketFlag::TRUNCATION))
}

#[test]
fn an_error_without_end_is_no_busy_loop() {
    let many = |q: &Query| match is(q, FIRST) {
        true => (0..1000).map(|n| Does::Fail(TRIP * n / 100, Errno::EHOSTUNREACH)).collect(),
        false => silence(),
    };
    let (_, took, sent) = look_up(&NameServers::new(TWO, many));
    assert_eq!((took, sent), (WINDOW, 11));
}

#[test]
fn ids_differ_from_server_to_server_and_question_to_question_and_stay_with_a_repeat() {
    let world = NameServers::new(TWO, |_| silence());
    look_up(&world);
    look_up(&world);
    let queries = world.queries();
    let ids = |server, from, to| {
        let of = queries[from..to].iter().filter(move |q| is(q, server));
        of.map(|q| q.id).collect::<Vec<u16>>()
    };
    let mut all = Vec::new();
    for (from, to) in [(0, 10), (10, 20)] {
        for server in [FIRST, SECOND] {
            let ids = ids(server, from, to);
            assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
            all.push(ids[0]);
        }
    }
    // Four random numbers of 65,536 may have two alike, but not all.
    all.dedup();
    assert!(all.len() > 1, "{all:?}");
}

// ---- search domains ----

const SEARCH: &str = "nameserver 10.0.0.2\nsearch a.example b.example\n";

#[test]
fn a_search_domain_completes_a_short_name() {
    let world = NameServers::new(SEARCH, |q| match q.name.as_str() {
        "files.b.example" => good(q),
        _ => says(q.code(RCODE::NameError)),
    });
    assert_eq!(look_up_name(&world, "files"), outcome(&format!("{GOOD}{COMPLETED}"), 2, 2));
    let names: Vec<String> = world.queries().into_iter().map(|q| q.name).collect();
    assert_eq!(names, ["files.a.example", "files.b.example"]);
    // A whole name is asked for as it is, and nothing else.
    let text = "name server 10.0.0.2 says that there is no such name (NXDOMAIN)";
    assert_eq!(look_up_name(&world, "files."), outcome(text, 1, 1));
}

#[test]
fn a_name_with_dots_is_asked_for_first_and_completed_only_after_an_answer() {
    let completed = |first: fn(&Query) -> Vec<Does>| {
        let world =
            NameServers::new(SEARCH, move |q| if q.name == OTHER { first(q) } else { good(q) });
        look_up_name(&world, OTHER)
    };
    assert_eq!(completed(good), outcome(GOOD, 1, 1));
    let nx: fn(&Query) -> Vec<Does> = |q| says(q.code(RCODE::NameError));
    let found = format!("{GOOD}, which knows it as {OTHER}.a.example, by a search domain");
    assert_eq!(completed(nx), outcome(&found, 2, 2));
    let servfail = completed(|q| says(q.code(RCODE::ServerFailure)));
    assert_eq!(servfail, outcome(&found, 2, 2), "as libc has it");
    // Silence and errors say nothing of the name: no other machine may take its place.
    let silent = "no answer from name server 10.0.0.2 within 3.0 s";
    assert_eq!(completed(|_| silence()), outcome(silent, 3000, 10));
    let text = "name server 10.0.0.2 cannot be reached: connection refused (ECONNREFUSED)";
    assert_eq!(completed(|_| refused()), outcome(text, 1, 1));
}

#[test]
fn no_search_domain_completes_a_name_of_aws_or_one_with_a_dot_at_its_end() {
    let nx = "name server 10.0.0.2 says that there is no such name (NXDOMAIN)";
    let search = format!("{SEARCH}options ndots:9\n");
    for name in [
        NAME,
        "fs-1.efs.cn-north-1.amazonaws.com.cn",
        "fs-1.fsx.eu-west-1.amazonaws.com",
        "euw1-az1.fs-1.s3files.eu-west-1.on.aws",
        "fs-1.efs.us-isob-east-1.sc2s.sgov.gov",
        "sts.eu-west-1.amazonaws.com",
        "nfs.lab.example.",
        "files.",
    ] {
        let itself = name.strip_suffix('.').unwrap_or(name);
        let wildcard = NameServers::new(&search, |q| match q.name == itself {
            true => says(q.code(RCODE::NameError)),
            false => good(q),
        });
        assert_eq!(look_up_name(&wildcard, name), outcome(nx, 1, 1), "{name}");
        let there =
            NameServers::new(&search, |q| if q.name == itself { good(q) } else { silence() });
        assert_eq!(look_up_name(&there, name), outcome(GOOD, 1, 1), "{name}");
    }
}

#[test]
fn ipv6_addresses_are_asked_for_by_themselves_where_the_ipv4_ones_are_of_no_use() {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir(root.path().join("etc")).unwrap();
    fs::write(root.path().join("etc/resolv.conf"), SEARCH).unwrap();
    let further = |name: &str, world: &NameServers<'_>| {
        let until = Deadline::after(world, millis(300));
        let (root, spelling, wire) = (root.path(), Spelling::Mixed, &mut &*world);
        let found = LookUp { root, spelling, until, clock: world, wire }.further(name);
        let Some(found) = found.unwrap() else { return "unanswered".into() };
        found.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(" ")
    };
    let both =
        NameServers::new(SEARCH, |q| says(q.addresses(&["10.0.1.12", "fd00::1", "fd00::2"])));
    let (found, _) = both.look_up(NAME, WINDOW);
    assert!(found.unwrap().ipv4_alone);
    assert_eq!(further(NAME, &both), "fd00::1 fd00::2");
    assert_eq!(further("nfs.lab.example.", &both), "fd00::1 fd00::2");
    for (none, what) in [
        (NameServers::new(SEARCH, |q| says(q.addresses(&["10.0.1.12"]))), ""),
        (NameServers::new(SEARCH, |q| says(q.code(RCODE::NameError))), ""),
        (NameServers::new(SEARCH, |_| silence()), "unanswered"),
        (NameServers::new(SEARCH, |_| refused()), "unanswered"),
    ] {
        assert_eq!(further(NAME, &none), what);
        assert!(none.now() <= millis(300) && none.queries().iter().all(|q| q.name == NAME));
    }
    let (found, _) =
        NameServers::new(SEARCH, |q| says(q.addresses(&["fd00::1"]))).look_up(NAME, WINDOW);
    assert!(!found.unwrap().ipv4_alone);
}

#[test]
fn further_addresses_come_behind_those_of_the_name_and_before_those_of_the_config() {
    let texts = |found: &Found| found.addresses.iter().map(IpAddr::to_string).collect::<Vec<_>>();
    let mut found = Found::new(vec![ip("10.0.1.1")], By::Hosts);
    found.list(&[ip("10.0.1.1"), ip("10.0.1.2"), ip("fd00::2")]);
    assert_eq!(
        (texts(&found), found.listed),
        (vec!["10.0.1.1".into(), "10.0.1.2".into(), "fd00::2".into()], 2)
    );
    found.add(vec![ip("fd00::1"), ip("fd00::2")]);
    assert_eq!(texts(&found), ["10.0.1.1", "fd00::1", "fd00::2", "10.0.1.2"]);
}

#[test]
fn the_stamp_changes_with_either_file_and_with_nothing_else() {
    let root = tempfile::tempdir().unwrap();
    let stamp = || Resolver::stamp(root.path());
    fs::create_dir(root.path().join("etc")).unwrap();
    let none = stamp();
    assert_eq!(none, stamp());
    for file in ["etc/hosts", "etc/resolv.conf"] {
        let before = stamp();
        fs::write(root.path().join(file), ONE).unwrap();
        assert_ne!(before, stamp(), "{file}");
    }
    // NetworkManager and systemd-resolved write it like this.
    let before = stamp();
    fs::write(root.path().join("etc/new"), ONE).unwrap();
    assert_eq!(before, stamp());
    fs::rename(root.path().join("etc/new"), root.path().join("etc/resolv.conf")).unwrap();
    assert_ne!(before, stamp());
}

#[test]
fn silence_about_one_completion_leaves_time_for_the_others() {
    let world = NameServers::new(SEARCH, |q| if q.name == "files" { good(q) } else { silence() });
    // A third of three seconds, and half of the rest; four queries each.
    assert_eq!(look_up_name(&world, "files"), outcome(GOOD, 2001, 9));
    let world = NameServers::new(SEARCH, |_| silence());
    let text = "no answer from name server 10.0.0.2 within 1.0 s";
    assert_eq!(look_up_name(&world, "files"), outcome(text, 3000, 12));
    let ndots = format!("{SEARCH}options ndots:5\n");
    let world = NameServers::new(&ndots, |q| if q.name == OTHER { good(q) } else { silence() });
    assert_eq!(look_up_name(&world, OTHER), outcome(GOOD, 2001, 9));
}

#[test]
fn a_late_answer_to_an_earlier_completion_counts() {
    let world = NameServers::new(SEARCH, |q| match q.name.as_str() {
        "files.a.example" => vec![Does::Send(millis(1500), q.addresses(&["10.0.1.12"]))],
        _ => silence(),
    });
    let first = format!("{GOOD}{}", COMPLETED.replace(".b.", ".a."));
    assert_eq!(look_up_name(&world, "files"), outcome(&first, 1500, 6));
    let late_no = NameServers::new(SEARCH, |q| match q.name.as_str() {
        "files.a.example" => vec![Does::Send(millis(1500), q.code(RCODE::NameError))],
        "files" => good(q),
        _ => silence(),
    });
    assert_eq!(look_up_name(&late_no, "files"), outcome(GOOD, 2001, 9));
}

#[test]
fn what_the_name_itself_got_is_told_and_an_answer_before_silence() {
    let world = |completed: fn(&Query) -> Vec<Does>, itself: fn(&Query) -> Vec<Does>| {
        let world =
            NameServers::new(
                SEARCH,
                move |q| if q.name == "files" { itself(q) } else { completed(q) },
            );
        look_up_name(&world, "files").0
    };
    let nx: fn(&Query) -> Vec<Does> = |q| says(q.code(RCODE::NameError));
    let servfail: fn(&Query) -> Vec<Does> = |q| says(q.code(RCODE::ServerFailure));
    assert_eq!(world(nx, servfail), "name server 10.0.0.2 answers SERVFAIL");
    assert!(world(servfail, nx).ends_with("(NXDOMAIN)"));
    assert!(world(nx, |_| silence()).ends_with("(NXDOMAIN)"));
    assert!(world(|_| silence(), nx).ends_with("(NXDOMAIN)"));
}

#[test]
fn a_completion_too_long_for_dns_is_passed_over() {
    let long = ["a"; 126].join(".");
    let world =
        NameServers::new(&format!("{ONE}search {long} b.example\n"), |q| match q.name.as_str() {
            "files.b.example" => good(q),
            _ => silence(),
        });
    assert_eq!(look_up_name(&world, "files"), outcome(&format!("{GOOD}{COMPLETED}"), 1, 1));
    let (text, took, sent) = look_up_name(&world, &["a"; 128].join("."));
    assert_eq!((text.as_str(), took, sent), ("the name is too long for DNS", Duration::ZERO, 0));
}

#[test]
fn a_signal_ends_a_look_up_at_once() {
    let world = NameServers::new(ONE, |_| silence());
    world.stop();
    let (result, took) = world.look_up(NAME, WINDOW);
    assert_eq!((result, took), (Err(NameError::Stopped(Stopped)), Duration::ZERO));
}

// ---- over real sockets ----

#[test]
fn on_loopback_an_answer_is_found_and_a_closed_port_is_told() {
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = server.local_addr().unwrap();
    let thread = std::thread::spawn(move || {
        let mut buffer = [0; 512];
        let (_, peer) = server.recv_from(&mut buffer).unwrap();
        let id = u16::from_be_bytes([buffer[0], buffer[1]]);
        let asked = Packet::parse(&buffer).unwrap().questions[0].qname.to_string();
        let answer = reply(id, &asked, TYPE::A, |p| p.answers.push(record(NAME, "10.0.1.12")));
        server.send_to(&answer, peer).unwrap();
    });
    let stop = Stop::install().unwrap();
    let clock = SystemClock::new(std::time::Instant::now(), &stop);
    let until = Deadline::after(&clock, millis(60_000));
    let mut sockets = Sockets::new(&clock, &stop);
    let mut asker = Asker::new(&[address], Spelling::Mixed, &clock, &mut sockets);
    assert_eq!(told(asker.addresses(NAME, until)), "10.0.1.12 by name server 127.0.0.1");
    thread.join().unwrap();
    // The server's port is closed now.
    let text = "name server 127.0.0.1 cannot be reached: connection refused (ECONNREFUSED)";
    assert_eq!(told(asker.addresses(NAME, until)), text);
}

// ---- whatever they do ----

/// What one of the random servers is like.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Nature {
    /// Answers each query truly, this much later.
    Honest(Duration),
    /// Answers truly, but loses some and is slow at some.
    Lossy,
    /// Says that it cannot answer, in one way or another.
    Failing,
    /// Its port is closed, or there is no way to it.
    Unreachable,
    /// Sends what nobody asked for, and never an answer.
    Garbage,
    /// Sends garbage without end.
    Flood,
    /// Sends half an answer, and over TCP garbage or nothing.
    Truncating,
    Silent,
}

impl Nature {
    fn random(random: &mut Random, window: Duration) -> Self {
        let span = window.as_millis() as usize;
        match random.below(25) {
            0..4 => Self::Honest(TRIP + random.millis(span)),
            4..8 => Self::Lossy,
            8..11 => Self::Failing,
            11..14 => Self::Unreachable,
            14..18 => Self::Garbage,
            18..21 => Self::Truncating,
            21 => Self::Flood,
            _ => Self::Silent,
        }
    }

    fn does(self, query: &Query, random: &mut Random) -> Vec<Does> {
        let truth = query.addresses(&["10.0.1.12"]);
        let soon = random.millis(400);
        match self {
            Self::Honest(delay) => vec![Does::Send(delay, truth)],
            Self::Lossy if random.below(2) == 0 => silence(),
            Self::Lossy => vec![Does::Send(random.millis(3000), truth)],
            Self::Failing => {
                let codes = [RCODE::ServerFailure, RCODE::Refused, RCODE::NotImplemented];
                vec![Does::Send(soon, query.code(codes[random.below(3)]))]
            }
            Self::Unreachable => {
                let after = if random.below(2) == 0 { Duration::ZERO } else { soon };
                vec![Does::Fail(after, [Errno::ECONNREFUSED, Errno::ENETUNREACH][random.below(2)])]
            }
            Self::Garbage => garbage(query)
                .into_iter()
                .map(|bytes| Does::Send(random.millis(400), bytes))
                .collect(),
            Self::Flood if query.repeats > 0 => silence(),
            Self::Flood => {
                let mut all = garbage(query);
                vec![Does::Flood(all.remove(random.below(all.len())))]
            }
            Self::Truncating => vec![Does::Send(soon, truncated_bytes(query))],
            Self::Silent => silence(),
        }
    }
}

#[test]
fn whatever_the_servers_do_a_look_up_keeps_its_time_asks_little_and_finds_what_is_there() {
    let mut found = 0;
    for seed in 0..4000 {
        let mut random = Random::new(seed);
        let window =
            [millis(150), millis(1000), WINDOW, millis(1) + random.millis(4000)][random.below(4)];
        let count = random.below(3) + 1;
        let natures: Vec<Nature> =
            (0..count).map(|_| Nature::random(&mut random, window)).collect();
        let resolv_conf: String = (0..count).map(|n| format!("nameserver 10.0.0.{n}\n")).collect();
        // When the first true answer comes in.
        let truth = Cell::new(Duration::MAX);
        let mut tcp = Random::new(seed);
        let world = NameServers::new(&resolv_conf, |query| {
            let IpAddr::V4(v4) = query.to else { panic!("{query:?}") };
            let nature = natures[usize::from(v4.octets()[3])];
            let does = nature.does(query, &mut random);
            if let (Nature::Honest(_) | Nature::Lossy, [Does::Send(after, _)]) = (nature, &does[..])
            {
                truth.set(truth.get().min(query.at + *after));
            }
            does
        })
        .tcp(|_| Some((tcp.millis(2000), vec![0; 40])).filter(|_| tcp.below(2) == 0));
        let (result, took) = world.look_up(NAME, window);
        let case = format!("seed {seed}, {window:?}, {natures:?}: {result:?} in {took:?}");

        assert!(took <= window, "too long: {case}");
        let queries = world.queries();
        let sent = queries.iter().filter(|q| !q.by_tcp).count();
        let turns = (window.as_millis() / TURN.as_millis()) as usize + 1;
        assert!(sent <= turns.max(count + 2) + count, "{sent} datagrams: {case}");
        assert!(queries.len() - sent <= count, "TCP: {case}");
        let pauses = (took.as_millis() / BREATH.as_millis()) as usize;
        let came = sent * garbage(&queries[0]).len();
        assert!(world.reads() <= (pauses + sent + 1) * BURST + came, "spins: {case}");

        match &result {
            Ok(Found { addresses, .. }) => assert_eq!(*addresses, [ip("10.0.1.12")], "{case}"),
            Err(NameError::Silent(..)) => assert_eq!(took, window, "garbage ended it: {case}"),
            Err(NameError::Failed(..) | NameError::Unreachable { .. }) => {}
            Err(other) => panic!("{other}: {case}"),
        }
        // Each server is asked in its turn, whatever those before it do; TCP and a flood hold us up.
        let turn = TURN.min(window / (count as u32 + 1));
        let held = natures.iter().map(|nature| match nature {
            Nature::Truncating => TCP,
            Nature::Flood => BREATH * (turns + 1) as u32,
            _ => Duration::ZERO,
        });
        let held: Duration = held.sum();
        let promised = natures.iter().zip(0..).filter_map(|(nature, place)| match nature {
            Nature::Honest(delay) => Some(turn * place + *delay),
            _ => None,
        });
        for by in promised.chain([truth.get()]).map(|by| by.saturating_add(held)) {
            if by < window {
                found += 1;
                assert!(result.is_ok(), "not found by {by:?}: {case}");
                assert!(took <= by, "found later than {by:?}: {case}");
            }
        }
    }
    assert!(found > 1000, "{found} answers that had to be found are too few to say anything");
}

#[test]
fn whatever_the_other_completions_get_the_right_one_has_its_share() {
    for seed in 0..3000 {
        let mut random = Random::new(seed);
        let domains: Vec<String> =
            (0..random.below(files::MOST_DOMAINS) + 1).map(|n| format!("{n}.example")).collect();
        let count = domains.len() + 1;
        let right = random.below(count);
        let share = WINDOW / count as u32;
        let delay = random.millis(share.as_millis() as usize - 1);
        let name_of = |n: usize| match domains.get(n) {
            Some(domain) => format!("files.{domain}"),
            None => "files".into(),
        };
        let natures: Vec<usize> = (0..count).map(|_| random.below(5)).collect();
        let resolv_conf = format!("{ONE}search {}\n", domains.join(" "));
        let world = NameServers::new(&resolv_conf, |query| {
            let place = (0..count).find(|n| name_of(*n) == query.name).unwrap();
            if place == right {
                return vec![Does::Send(delay, query.addresses(&["10.0.1.12"]))];
            }
            match natures[place] {
                0 => silence(),
                1 => says(query.code(RCODE::NameError)),
                2 => says(query.code(RCODE::ServerFailure)),
                3 => says(query.addresses(&[])),
                _ => {
                    garbage(query).into_iter().map(|b| Does::Send(random.millis(900), b)).collect()
                }
            }
        });
        let (result, took) = world.look_up("files", WINDOW);
        let case =
            format!("seed {seed}: {right} of {natures:?}, {delay:?}: {result:?} in {took:?}");
        assert_eq!(result.map(|found| found.addresses), Ok(vec![ip("10.0.1.12")]), "{case}");
        // An answer that there is no IPv4 address costs a second question.
        assert!(took <= share * right as u32 + delay + TRIP * 2, "{case}");
        let sent = world.queries().len();
        let turns = (WINDOW.as_millis() / TURN.as_millis()) as usize;
        assert!(sent <= turns + 3 * 2 * count, "{sent} datagrams: {case}");
    }
}

#[test]
fn what_fails_in_mixed_letters_is_asked_for_as_it_is_written_and_from_then_on_by_turns() {
    use Spelling::{Mixed, Plain};
    let asked = std::cell::RefCell::new(vec![]);
    let server = "10.0.0.2".parse().unwrap();
    let letters = Letters::new();
    let look_up = |known: &[Spelling], is_late| {
        asked.borrow_mut().clear();
        let found = letters.by_turns(|spelling| {
            asked.borrow_mut().push(spelling);
            let found = Found::new(vec![server], By::Server(Answered::by(server)));
            let denied = NameError::NoSuchName(server);
            (known.contains(&spelling).then_some(found).ok_or(denied), is_late)
        });
        (found.is_ok(), asked.borrow().clone())
    };
    assert_eq!(look_up(&[Mixed], false), (true, vec![Mixed]));
    // Where there is no time left, it is the next look-up's turn.
    assert_eq!(look_up(&[Plain], true), (false, vec![Mixed]));
    assert_eq!(look_up(&[Plain], false), (true, vec![Plain]));
    assert_eq!(look_up(&[], false), (false, vec![Plain, Mixed]));
    // A name that does not exist costs each look-up one question.
    assert_eq!(look_up(&[], false), (false, vec![Mixed]));
    assert_eq!(look_up(&[], false), (false, vec![Plain]));
    assert_eq!(look_up(&[], false), (false, vec![Mixed]));
    let letters = Letters::new();
    let mut calls = 0;
    let gone = letters.by_turns(|_| {
        calls += 1;
        (Err(NameError::NoServers("does not exist")), false)
    });
    assert_eq!((gone, calls), (Err(NameError::NoServers("does not exist")), 1));
}
