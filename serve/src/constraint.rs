//! Answers that must have a form: JSON of a schema, an expression, a grammar.

use std::sync::Arc;

use llguidance::api::TopLevelGrammar;
use llguidance::toktrie::{ApproximateTokEnv, TokEnv, TokRxInfo, TokTrie};
use llguidance::{Matcher, ParserFactory};
use percept_infer::{Constraint, Error as InferError};
use serde_json::{Value, json};

use crate::failure::Failure;
use crate::fields::Fields;
use crate::models::Vocabulary;

/// The form of an answer.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Form {
    /// JSON that a schema allows.
    Schema(Value),
    /// Text that an expression matches whole.
    Regex(String),
    /// Text of a grammar, as Lark writes them.
    Lark(String),
}

/// White space between the parts of a document: enough to indent it, and not without end.
const SPACE: &str = r"[ \n\t]{0,24}";

impl Form {
    /// `response_format`.
    pub fn take(fields: &mut Fields) -> Result<Option<Self>, Failure> {
        const NAME: &str = "response_format";
        let Some(value) = fields.take(NAME) else { return Ok(None) };
        let mut format = Fields::of(value, NAME)?;
        let kind = format.needed_text("type")?;
        let form = match kind.as_str() {
            "text" => None,
            "json_object" => Some(Form::Schema(json!({ "type": "object" }))),
            "json_schema" => {
                // The Responses API has the schema in the format itself.
                let inner = format.take("json_schema");
                let mut inner = match inner {
                    Some(inner) => Fields::of(inner, "response_format.json_schema")?,
                    None => return Err(format.missing("json_schema")),
                };
                let form = Self::schema(&mut inner)?;
                inner.finish()?;
                Some(form)
            }
            "regex" => Some(Form::Regex(format.needed_text("regex")?)),
            "grammar" => Some(Form::Lark(format.needed_text("grammar")?)),
            _ => {
                let kind: String = kind.chars().take(40).collect();
                let why = format!(
                    "`response_format.type`: '{kind}' is not known; there are text, json_object, json_schema, regex and grammar"
                );
                return Err(Failure::field("response_format.type", why));
            }
        };
        format.finish()?;
        Ok(form)
    }

    /// `name`, `description`, `strict` and `schema` of a format: answers keep to the schema whether it is strict or not.
    pub fn schema(fields: &mut Fields) -> Result<Self, Failure> {
        fields.text("name")?;
        fields.text("description")?;
        fields.flag("strict")?;
        let schema = fields.take("schema").ok_or_else(|| fields.missing("schema"))?;
        Ok(Form::Schema(schema))
    }

    fn grammar(self) -> Result<TopLevelGrammar, Failure> {
        match self {
            Form::Regex(regex) => Ok(TopLevelGrammar::from_regex(&regex)),
            Form::Lark(grammar) => Ok(TopLevelGrammar::from_lark(grammar)),
            Form::Schema(schema) => Ok(TopLevelGrammar::from_json_schema(spaced(schema)?)),
        }
    }
}

/// A schema with the white space that documents of it may have.
pub(crate) fn spaced(schema: Value) -> Result<Value, Failure> {
    const OWN: &str = "x-guidance";
    match schema {
        Value::Object(mut fields) => {
            if fields.contains_key(OWN) {
                return Err(Failure::bad(format!("the schema: `{OWN}` is the server's own; leave it out")));
            }
            fields.insert(OWN.into(), json!({ "whitespace_flexible": true, "whitespace_pattern": SPACE }));
            Ok(Value::Object(fields))
        }
        Value::Bool(true) => spaced(json!({})),
        _ => Err(Failure::bad("the schema must be an object")),
    }
}

/// Makes constraints over a model's tokens.
pub(crate) struct Grammars {
    factory: ParserFactory,
}

impl Grammars {
    /// Over these tokens, some of which end an answer.
    ///
    /// # Errors
    /// When the library cannot index the tokens.
    pub fn of(vocabulary: &Vocabulary, ends: &[i32]) -> Result<Self, String> {
        let words: Vec<Vec<u8>> = vocabulary
            .tokens()
            .iter()
            .map(|token| match token.special {
                // What marks a place is no text that a grammar could ask for.
                true => [&[TokTrie::SPECIAL_TOKEN_MARKER], token.bytes.as_slice()].concat(),
                false => token.bytes.clone(),
            })
            .collect();
        let end =
            ends.first().and_then(|&end| u32::try_from(end).ok()).filter(|&end| (end as usize) < words.len());
        let end =
            end.ok_or("no token of the vocabulary ends an answer, so none that must have a form could end")?;
        let count = u32::try_from(words.len()).map_err(|_| "the vocabulary is too large")?;
        let trie = TokTrie::from(&TokRxInfo::new(count, end), &words);
        let env: TokEnv = Arc::new(ApproximateTokEnv::new(trie));
        let mut factory = ParserFactory::new_simple(&env).map_err(|error| error.to_string())?;
        factory.quiet();
        Ok(Self { factory })
    }

    /// What keeps answers to a form.
    ///
    /// # Errors
    /// When the form cannot be compiled: where and why.
    pub fn compile(&self, form: Form, param: &str) -> Result<Compiled, Failure> {
        let parser = self.factory.create_parser(form.grammar().map_err(|failure| failure.at(param))?);
        let mut matcher = Matcher::new(parser);
        let wrong = |why: String| {
            let why: String = why.chars().take(1000).collect();
            Failure::field(param, format!("`{param}` cannot be compiled: {}", why.trim()))
                .with_code("invalid_schema")
        };
        match matcher.get_error() {
            Some(why) => Err(wrong(why)),
            // What cannot begin is told now, and not when the answer is under way.
            None => match matcher.compute_mask_or_eos() {
                Ok(_) => Ok(Compiled(matcher)),
                Err(error) => Err(wrong(error.to_string())),
            },
        }
    }
}

/// A form that was compiled.
pub(crate) struct Compiled(Matcher);

impl Compiled {
    /// The constraint of one answer.
    pub fn constraint(&self) -> Box<dyn Constraint> {
        Box::new(Guide(self.0.deep_clone()))
    }
}

/// The constraint of one answer.
struct Guide(Matcher);

impl Constraint for Guide {
    fn mask(&mut self, allowed: &mut [u32]) -> Result<(), InferError> {
        let mask = self.0.compute_mask_or_eos().map_err(failed)?;
        for (word, bits) in allowed.iter_mut().zip(mask.as_slice()) {
            *word = *bits;
        }
        Ok(())
    }

    fn accept(&mut self, id: i32) -> Result<(), InferError> {
        self.0.consume_token(id.cast_unsigned()).map_err(failed)
    }

    fn may_end(&mut self) -> bool {
        self.0.is_stopped() || self.0.is_accepting().unwrap_or(false)
    }
}

fn failed(error: impl std::fmt::Display) -> InferError {
    let why: String = error.to_string().chars().take(300).collect();
    InferError::Constraint(format!("the form of the answer cannot be kept: {why}"))
}
