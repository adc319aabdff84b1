//! Sessions of one base with different adapters hold the base's weights once.

use percept::infer::{GenerateOptions, Session, SessionOptions, SharedWeights};
use percept::model::{Model, Weights};

use crate::devices;
use crate::parity_case::adapters;
use crate::scheduler::{Found, found};
use crate::sessions::{case, session, text};

/// What a session answers to a text.
fn answer(session: &mut Session) -> Found {
    let (case, vocab) = (case("llama"), session.model().decoder().vocab);
    let options = GenerateOptions { max_tokens: Some(6), logprobs: Some(1), ..GenerateOptions::default() };
    found(&session.generate(&text(&case, vocab, 20, 1), &options, &mut |_| {}).unwrap())
}

#[test]
fn adapters_of_one_base_hold_its_weights_once_and_answer_as_alone() {
    let (cpu, base) = (devices::device("cpu"), case("llama"));
    let all = adapters::cases();
    let adapted: Vec<_> = all.iter().filter(|(adapted, _)| adapted.base == "llama").collect();
    assert!(adapted.len() > 3);
    let open =
        |weights: Weights, options: &SessionOptions| match percept::model::open_weights(weights).unwrap() {
            Model::Causal(model) => Session::new(cpu.clone(), model, options.clone()).unwrap(),
            _ => panic!("llama continues text"),
        };
    let held = || cpu.memory().buffers;
    let (before, alone) = (held(), SessionOptions::default());
    let mut one = session(&base, &cpu, alone.clone());
    let base_bytes = held() - before;
    let expected_base = answer(&mut one);
    drop(one);
    assert_eq!(held(), before);
    let mut own_bytes = 0;
    let mut expected = Vec::new();
    for (adapted, case) in &adapted {
        let mut session = open(adapted.weights(case).unwrap(), &alone);
        // Beside the base: the adapter, and what it replaces.
        own_bytes += (held() - before).saturating_sub(base_bytes);
        expected.push(answer(&mut session));
    }
    assert!(expected.iter().any(|answer| *answer != expected_base), "the adapters change nothing");

    let shared = SessionOptions { weights: Some(SharedWeights::default()), ..SessionOptions::default() };
    let mut first = session(&base, &cpu, shared.clone());
    let mut sessions: Vec<Session> =
        adapted.iter().map(|(adapted, case)| open(adapted.weights(case).unwrap(), &shared)).collect();
    // A head or table that is replaced counts whole; a little is lost to small blocks.
    let together = held() - before;
    let apart = base_bytes * (1 + adapted.len() as u64) + own_bytes;
    println!(
        "{} sessions: {together} bytes together, {apart} apart, the base {base_bytes}",
        1 + adapted.len()
    );
    assert!(together <= 2 * base_bytes + own_bytes && together < apart / 2);
    assert_eq!(answer(&mut first), expected_base);
    for (session, expected) in sessions.iter_mut().zip(&expected) {
        assert_eq!(answer(session), *expected);
    }
    // The base goes with the last that holds it.
    drop(first);
    assert_eq!(answer(&mut sessions[0]), expected[0]);
    drop(sessions);
    assert_eq!(held(), before);
    // Devices do not mix while weights are held.
    let _held = session(&base, &cpu, shared.clone());
    let model = crate::sessions::model(&base);
    let refused = Session::new(devices::device("cpu"), model, shared).err().unwrap().to_string();
    assert!(refused.contains("one device"), "{refused}");
}
