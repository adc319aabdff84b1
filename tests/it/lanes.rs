//! Sessions of one model that answer many requests side by side, each on a thread of its own.

use std::sync::Arc;

use percept::infer::{Error, GenerateOptions, Request, Session, SessionOptions};
use percept::modalities::Inputs;

use crate::devices;
use crate::parity_case::Case;
use crate::scheduler::{Found, alone, found, requests};
use crate::sessions::{case, session, text};

/// A session with lanes of one thread each.
fn with_lanes(case: &Case, lanes: usize) -> Session {
    let session = session(case, &devices::device("cpu"), SessionOptions::default());
    let lane = |_| session.on(Arc::new(percept_cpu::open(1).unwrap())).unwrap();
    let lanes = (0..lanes).map(lane).collect();
    session.with_lanes(lanes)
}

fn request((inputs, options): &(Inputs, GenerateOptions)) -> Result<Request, Error> {
    Ok(Request::new(inputs.clone(), options.clone()))
}

#[test]
fn requests_are_answered_in_lanes_as_each_alone_bit_for_bit() {
    for name in ["gemma3", "qwen2-audio", "lfm2-vl"] {
        let case = case(name);
        let mut session = with_lanes(&case, 3);
        let asked = requests(&case, &session, 20);
        let expected = alone(&case, &asked);
        for batch in [1, 7, 64] {
            let mut answers: Vec<Found> = Vec::new();
            let done = |i: usize, generation| {
                assert_eq!(i, answers.len(), "answers come in the order of the requests");
                answers.push(found(&generation));
                Ok::<_, Error>(())
            };
            session.generate_all(asked.iter().map(request), batch, done).unwrap();
            assert_eq!(answers.len(), expected.len());
            for (i, (answer, expected)) in answers.iter().zip(&expected).enumerate() {
                assert_eq!(answer, expected, "{name}: request {i}, {batch} at a time");
            }
        }
        assert_eq!(session.rows_read(), 0, "the lanes read, and not the session that has them");
    }
}

#[test]
fn no_more_requests_are_taken_than_two_batches() {
    let case = case("llama");
    let mut session = with_lanes(&case, 2);
    // The first takes long, and the others wait for it to be told.
    let inputs = text(&case, session.model().decoder().vocab, 5, 1);
    let options = |tokens| GenerateOptions {
        max_tokens: Some(tokens),
        ignore_ends: true,
        ..GenerateOptions::default()
    };
    let mut asked = vec![(inputs, options(1)); 24];
    asked[0].1 = options(100);
    let (taken, ended) = (std::cell::Cell::new(0), std::cell::Cell::new(0));
    let counted = asked.iter().map(|asked| {
        taken.set(taken.get() + 1);
        assert!(taken.get() - ended.get() <= 8, "{} taken, {} ended", taken.get(), ended.get());
        request(asked)
    });
    let done = |_, _| {
        ended.set(ended.get() + 1);
        Ok::<_, Error>(())
    };
    session.generate_all(counted, 4, done).unwrap();
    assert_eq!((taken.get(), ended.get()), (24, 24));
}

#[test]
fn an_error_of_a_request_a_lane_or_the_one_who_listens_ends_the_run() {
    let case = case("llama");
    let mut session = with_lanes(&case, 2);
    let asked = requests(&case, &session, 8);
    let own = |why: &str| Error::Setting(why.to_owned());

    let refused = asked.iter().map(request).chain([Err(own("unreadable"))]);
    let outcome = session.generate_all(refused, 3, |_, _| Ok(()));
    assert!(matches!(&outcome, Err(Error::Setting(why)) if why == "unreadable"), "{outcome:?}");

    let context = session.model().decoder().context;
    let long = text(&case, session.model().decoder().vocab, context + 1, 1);
    let long = Ok(Request::new(long, GenerateOptions::default()));
    let outcome = session.generate_all(asked.iter().map(request).chain([long]), 3, |_, _| Ok::<_, Error>(()));
    assert!(matches!(outcome, Err(Error::TooLong { .. })), "{outcome:?}");

    let mut told = 0;
    let outcome = session.generate_all(asked.iter().map(request), 3, |_, _| {
        told += 1;
        if told == 4 { Err(own("the disk is full")) } else { Ok(()) }
    });
    assert!(matches!(&outcome, Err(Error::Setting(why)) if why == "the disk is full"), "{outcome:?}");
    assert_eq!(told, 4);

    // What was ended leaves nothing behind that the next run would find.
    let mut ended = 0;
    session
        .generate_all(asked.iter().map(request), 3, |_, _| {
            ended += 1;
            Ok::<_, Error>(())
        })
        .unwrap();
    assert_eq!(ended, asked.len());
}
