//! Which of several servers has a stream, so that all who know the same servers agree without asking each other.
//!
//! Rendezvous hashing: every server has a weight for every stream, and the heaviest has it. A server that leaves gives
//! up its own streams and moves no other; one that comes takes its part from all the others and moves nothing between
//! them. Source: Thaler and Ravishankar 1998, "Using name-based mappings to increase hit rates", IEEE/ACM Trans. Netw. 6.

use sha2::{Digest, Sha256};

/// The server that has `stream`; `None` without servers. Their order does not matter.
pub fn owner<'a>(stream: &str, servers: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // Equal weights are as likely as a collision of SHA-256; the name decides even then.
    servers.into_iter().max_by_key(|server| (weight(server, stream), *server))
}

/// The same on every machine and in every version.
fn weight(server: &str, stream: &str) -> [u8; 32] {
    // Names hold no NUL: no two pairs are written alike.
    Sha256::new().chain_update(server).chain_update([0]).chain_update(stream).finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    const STREAMS: usize = 2000;

    fn streams() -> impl Iterator<Item = String> {
        (0..STREAMS).map(|n| format!("cam-{n}"))
    }

    fn assignment(servers: &[&str]) -> BTreeMap<String, String> {
        streams()
            .map(|stream| {
                let owner = owner(&stream, servers.iter().copied()).unwrap().to_owned();
                (stream, owner)
            })
            .collect()
    }

    #[test]
    fn every_stream_has_one_server_and_each_about_as_many() {
        assert_eq!(owner("cam", []), None);
        let servers = ["a", "b", "c", "d", "e"];
        let assigned = assignment(&servers);
        assert_eq!(assigned, assignment(&["d", "a", "e", "c", "b"]), "in whatever order they are named");
        let each = STREAMS as f64 / servers.len() as f64;
        // Five standard deviations of a binomial.
        let slack = 5.0 * (each * (1.0 - 1.0 / servers.len() as f64)).sqrt();
        for server in servers {
            let has = assigned.values().filter(|owner| *owner == server).count() as f64;
            assert!((has - each).abs() <= slack, "{server} has {has} of {each} +- {slack}");
        }
    }

    #[test]
    fn only_what_must_move_moves() {
        let before = assignment(&["a", "b", "c", "d"]);
        let without = assignment(&["a", "b", "d"]);
        let with = assignment(&["a", "b", "c", "d", "e"]);
        let (mut lost, mut gained) = (0, 0);
        for (stream, owner) in &before {
            match owner.as_str() {
                "c" => lost += 1,
                _ => assert_eq!(without[stream], *owner, "{stream} stays when c leaves"),
            }
            if with[stream] != *owner {
                assert_eq!(with[stream], "e", "{stream} moves to nobody but the one who came");
                gained += 1;
            }
        }
        assert!(lost > STREAMS / 6 && gained > STREAMS / 8, "{lost} left c, {gained} came to e");
    }

    #[test]
    fn the_assignment_is_that_of_other_machines() {
        // Written down once: another version must not move streams while both run.
        let assigned: Vec<_> =
            ["cam", "door", "lobby-1"].map(|stream| owner(stream, ["a", "b", "c"]).unwrap()).to_vec();
        assert_eq!(assigned, ["a", "a", "c"]);
    }
}
