//! The events of a response that is streamed.

use percept_infer::Generation;
use serde_json::{Value, json};

use super::responses::{Head, call_item, message_item, reasoning_item, text_part};
use crate::answers::{News, Usage};
use crate::failure::Failure;
use crate::observe::unique;
use crate::reading::Reading;
use crate::reply::{Piece, Reader};
use crate::telling::Teller;

/// An item that is being told.
enum Open {
    Reasoning { id: String, text: String },
    Message { id: String, text: String },
    Call { id: String, call: String, name: String, arguments: String },
}

/// A response in events.
pub(super) struct Events {
    head: Head,
    reading: Reading,
    reader: Reader,
    number: u64,
    open: Option<Open>,
    done: Vec<Value>,
    last: Option<Generation>,
}

impl Events {
    pub fn new(head: Head, reading: Reading, reader: Reader) -> Self {
        Self { head, reading, reader, number: 0, open: None, done: Vec::new(), last: None }
    }

    fn event(&mut self, kind: &str, mut document: Value) -> String {
        document["type"] = json!(kind);
        document["sequence_number"] = json!(self.number);
        self.number += 1;
        format!("event: {kind}\ndata: {document}\n\n")
    }

    fn added(&mut self, item: Value) -> String {
        let index = self.done.len();
        self.event("response.output_item.added", json!({ "output_index": index, "item": item }))
    }

    /// Ends the item that is open.
    fn close(&mut self) -> String {
        let Some(open) = self.open.take() else { return String::new() };
        let index = self.done.len();
        let (told, item) = match open {
            Open::Reasoning { id, text } => {
                let at = json!({ "item_id": id, "output_index": index, "content_index": 0, "text": text });
                (
                    self.event("response.reasoning_text.done", at),
                    reasoning_item(&id, "completed", Some(&text)),
                )
            }
            Open::Message { id, text } => {
                let at = json!({
                    "item_id": id, "output_index": index, "content_index": 0, "text": text, "logprobs": [],
                });
                let mut told = self.event("response.output_text.done", at);
                let at = json!({
                    "item_id": id, "output_index": index, "content_index": 0, "part": text_part(&text),
                });
                told += &self.event("response.content_part.done", at);
                (told, message_item(&id, "completed", Some(&text)))
            }
            Open::Call { id, call, name, arguments } => {
                let at =
                    json!({ "item_id": id, "output_index": index, "name": name, "arguments": arguments });
                let told = self.event("response.function_call_arguments.done", at);
                (told, call_item(&id, "completed", &call, &name, &arguments))
            }
        };
        self.done.push(item.clone());
        told + &self.event("response.output_item.done", json!({ "output_index": index, "item": item }))
    }

    fn message(&mut self) -> String {
        if matches!(self.open, Some(Open::Message { .. })) {
            return String::new();
        }
        let mut told = self.close();
        let (id, index) = (format!("msg_{}", unique()), self.done.len());
        told += &self.added(message_item(&id, "in_progress", None));
        let at = json!({ "item_id": id, "output_index": index, "content_index": 0, "part": text_part("") });
        told += &self.event("response.content_part.added", at);
        self.open = Some(Open::Message { id, text: String::new() });
        told
    }

    fn pieces(&mut self, pieces: Vec<Piece>) -> String {
        pieces.into_iter().map(|piece| self.piece(piece)).collect()
    }

    fn piece(&mut self, piece: Piece) -> String {
        let mut told = String::new();
        let index = self.done.len();
        match piece {
            Piece::Text(more) => {
                told += &self.message();
                let index = self.done.len();
                let Some(Open::Message { id, text }) = &mut self.open else { return told };
                text.push_str(&more);
                let at = json!({
                    "item_id": id, "output_index": index, "content_index": 0, "delta": more, "logprobs": [],
                });
                told + &self.event("response.output_text.delta", at)
            }
            Piece::Reasoning(more) => {
                if self.open.is_none() {
                    let id = format!("rs_{}", unique());
                    told += &self.added(reasoning_item(&id, "in_progress", None));
                    self.open = Some(Open::Reasoning { id, text: String::new() });
                }
                let Some(Open::Reasoning { id, text }) = &mut self.open else { return told };
                text.push_str(&more);
                let at = json!({ "item_id": id, "output_index": index, "content_index": 0, "delta": more });
                told + &self.event("response.reasoning_text.delta", at)
            }
            Piece::Call { id: call, name, .. } => {
                told += &self.close();
                let id = format!("fc_{}", unique());
                told += &self.added(call_item(&id, "in_progress", &call, &name, ""));
                self.open = Some(Open::Call { id, call, name, arguments: String::new() });
                told
            }
            Piece::Arguments { text, .. } => {
                let Some(Open::Call { id, arguments, .. }) = &mut self.open else { return told };
                arguments.push_str(&text);
                let at = json!({ "item_id": id, "output_index": index, "delta": text });
                told + &self.event("response.function_call_arguments.delta", at)
            }
        }
    }
}

impl Teller for Events {
    fn begin(&mut self) -> String {
        let response = self.head.in_state("in_progress", Vec::new(), Value::Null);
        let created = self.event("response.created", json!({ "response": response }));
        created + &self.event("response.in_progress", json!({ "response": response }))
    }

    fn news(&mut self, _: usize, news: News) -> String {
        match news {
            News::Started { .. } => String::new(),
            News::Token { id, text, .. } => {
                let pieces = self.reader.push(&self.reading.seen(id, text));
                self.pieces(pieces)
            }
            News::Ended { text, generation } => {
                let mut pieces = self.reader.push(&text);
                pieces.extend(self.reader.finish());
                self.last = Some(*generation);
                self.pieces(pieces)
            }
        }
    }

    fn end(&mut self, used: Usage) -> String {
        // A response has one item at least.
        let mut told =
            if self.done.is_empty() && self.open.is_none() { self.message() } else { String::new() };
        told += &self.close();
        let Some(generation) = self.last.take() else { return told };
        let response = self.head.ended(self.done.clone(), &generation, used);
        let kind =
            if response["status"] == "completed" { "response.completed" } else { "response.incomplete" };
        told + &self.event(kind, json!({ "response": response }))
    }

    fn failed(&mut self, failure: &Failure) -> String {
        let mut response = self.head.in_state("failed", self.done.clone(), Value::Null);
        let code = failure.code.unwrap_or(failure.kind);
        response["error"] = json!({ "code": code, "message": failure.message });
        self.event("response.failed", json!({ "response": response }))
    }
}
