//! Shuffles, votes, matches, reductions, barriers: against lanes worked out by hand.
#![allow(clippy::unwrap_used, reason = "tests fail by panic")]

mod support;

use hone_ptxsim::Options;
use support::{kernel, launch, words};

#[test]
fn shuffles_take_from_where_the_isa_says() {
    let lanes: Vec<u32> = (0..32).collect();
    let shuffle = |what: &str| words(&format!("mov.u32 %r1, %lane; shfl.sync.{what}, 0xffffffff;"));
    let wanted = |f: &dyn Fn(u32) -> u32| lanes.iter().map(|lane| f(*lane)).collect::<Vec<u32>>();
    // Up: from below, the lowest keep theirs. Down: from above, the highest keep theirs.
    assert_eq!(shuffle("up.b32 %r0, %r1, 3, 0"), wanted(&|l| if l < 3 { l } else { l - 3 }));
    assert_eq!(shuffle("down.b32 %r0, %r1, 3, 31"), wanted(&|l| if l > 28 { l } else { l + 3 }));
    assert_eq!(shuffle("bfly.b32 %r0, %r1, 16, 31"), wanted(&|l| l ^ 16));
    assert_eq!(shuffle("idx.b32 %r0, %r1, 7, 31"), wanted(&|_| 7));
    // Segments of 8 lanes: c = (32 - 8) << 8 | bound.
    assert_eq!(shuffle("idx.b32 %r0, %r1, 2, 0x181f"), wanted(&|l| l / 8 * 8 + 2));
    assert_eq!(shuffle("down.b32 %r0, %r1, 1, 0x181f"), wanted(&|l| if l % 8 == 7 { l } else { l + 1 }));
    assert_eq!(shuffle("up.b32 %r0, %r1, 1, 0x1800"), wanted(&|l| if l % 8 == 0 { l } else { l - 1 }));
    // The predicate says whether the source was inside.
    let inside =
        "mov.u32 %r1, %lane; shfl.sync.down.b32 %r2|%p1, %r1, 3, 31, 0xffffffff; selp.u32 %r0, 1, 0, %p1;";
    assert_eq!(words(inside), wanted(&|l| u32::from(l <= 28)));
    // Half of the warp alone.
    let half = "setp.lt.u32 %p1, %lane, 16; mov.u32 %r0, 99;
        @%p1 shfl.sync.bfly.b32 %r0, %lane, 1, 31, 0x0000ffff;";
    assert_eq!(words(half), wanted(&|l| if l < 16 { l ^ 1 } else { 99 }));
}

#[test]
fn votes_matches_and_reductions() {
    let first = |body: &str| words(body)[0];
    let odd = "and.b32 %r1, %lane, 1; setp.eq.u32 %p1, %r1, 1;";
    assert_eq!(first(&format!("{odd} vote.sync.ballot.b32 %r0, %p1, -1;")), 0xaaaa_aaaa);
    assert_eq!(first(&format!("{odd} vote.sync.ballot.b32 %r0, !%p1, -1;")), 0x5555_5555);
    for (vote, wanted) in [("all", 0), ("any", 1), ("uni", 0)] {
        let body = format!("{odd} vote.sync.{vote}.pred %p2, %p1, -1; selp.u32 %r0, 1, 0, %p2;");
        assert_eq!(first(&body), wanted, "{vote}");
    }
    let quarter = "shr.u32 %r1, %lane, 3;";
    assert_eq!(words(&format!("{quarter} match.any.sync.b32 %r0, %r1, -1;"))[9], 0x0000_ff00);
    assert_eq!(first(&format!("{quarter} match.all.sync.b32 %r0|%p1, %r1, -1;")), 0);
    assert_eq!(first("mov.u32 %r1, 5; match.all.sync.b32 %r0|%p1, %r1, -1;"), u32::MAX);
    assert_eq!(first("redux.sync.add.u32 %r0, %lane, -1;"), 496);
    assert_eq!(first("neg.s32 %r1, %lane; redux.sync.min.s32 %r0, %r1, -1;"), -31i32 as u32);
    assert_eq!(first("neg.s32 %r1, %lane; redux.sync.min.u32 %r0, %r1, -1;"), 0);
    assert_eq!(first("redux.sync.xor.b32 %r0, %lane, -1;"), 0);
    assert_eq!(first("redux.sync.or.b32 %r0, %lane, -1;"), 31);
    let elect = words("elect.sync %r1|%p1, -1; selp.u32 %r0, 1, 0, %p1;");
    assert_eq!(elect.iter().sum::<u32>(), 1);
    let odd_only = "and.b32 %r1, %lane, 1; setp.eq.u32 %p1, %r1, 1; @%p1 activemask.b32 %r0;";
    assert_eq!(words(odd_only)[1], 0xaaaa_aaaa);
    assert_eq!(words(odd_only)[0], 0);
}

#[test]
fn barriers_reduce_over_the_block() {
    let run = |body: &str| launch(&kernel(body), 64, 64, &[], &Options::default()).unwrap().words;
    let few = "setp.lt.u32 %p1, %lane, 40;";
    assert_eq!(run(&format!("{few} bar.red.popc.u32 %r0, 0, %p1;")), vec![40; 64]);
    for (op, wanted) in [("and", 0), ("or", 1)] {
        let body =
            format!("{few} barrier.sync 1; bar.red.{op}.pred %p2, 0, 64, %p1; selp.u32 %r0, 1, 0, %p2;");
        assert_eq!(run(&body), vec![wanted; 64], "{op}");
    }
}

#[test]
fn a_producer_arrives_and_a_consumer_waits() {
    // Warp 0 writes and arrives; warp 1 waits at the same barrier, then reads: ordered, and no race.
    let body = "
        setp.ge.u32 %p1, %lane, 32;
        and.b32 %r1, %lane, 31;
        mov.u32 %r4, dynamic;
        mad.lo.u32 %r2, %r1, 4, %r4;
        @%p1 bra CONSUMER;
        st.shared.u32 [%r2], %r1;
        bar.arrive 1, 64;
        bra END;
    CONSUMER:
        bar.sync 1, 64;
        ld.shared.u32 %r0, [%r2];
    END:";
    for schedule in [hone_ptxsim::Schedule::RoundRobin, hone_ptxsim::Schedule::Reverse] {
        let options = Options { schedule, ..Options::default() };
        let out = launch(&kernel(body), 64, 128, &[], &options).unwrap().words;
        assert_eq!(out[32..], (0..32).collect::<Vec<u32>>());
        // The wrong way round, the writer waits and the reader only arrives: that orders nothing for the reader.
        let wrong = body
            .replace("bar.arrive 1", "bar.X 1")
            .replace("bar.sync 1", "bar.arrive 1")
            .replace("bar.X", "bar.sync");
        assert!(launch(&kernel(&wrong), 64, 128, &[], &options).is_err());
    }
}
