//! The tools that a request offers, and how the model may use them.

use serde_json::{Map, Value, json};

use crate::constraint::{Form, spaced};
use crate::failure::Failure;
use crate::fields::Fields;
use crate::models::{Language, Vocabulary};
use crate::reply::CallFormat;

/// Tools of one request at most.
const TOOLS: usize = 128;

/// A tool.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Tool {
    pub name: String,
    pub description: Option<String>,
    /// The JSON schema of its arguments.
    pub parameters: Value,
}

impl Tool {
    /// As chat templates read it.
    fn document(&self) -> Value {
        let mut function = json!({ "name": self.name });
        if let Some(description) = &self.description {
            function["description"] = json!(description);
        }
        function["parameters"] = self.parameters.clone();
        json!({ "type": "function", "function": function })
    }
}

/// What a model is to do with tools.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ToolChoice {
    Auto,
    None,
    Required,
    Named(String),
}

impl ToolChoice {
    /// The choice that OpenAI's protocols say in one word.
    pub fn of_word(word: &str) -> Option<Self> {
        match word {
            "auto" => Some(Self::Auto),
            "none" => Some(Self::None),
            "required" => Some(Self::Required),
            _ => None,
        }
    }
}

/// The tools of a request.
pub(crate) struct Tools {
    pub tools: Vec<Tool>,
    pub choice: ToolChoice,
    /// Whether several may be called in one answer.
    pub parallel: bool,
}

impl Tools {
    /// `tools`, `tool_choice` and `parallel_tool_calls`, as OpenAI's chat has them.
    pub fn take(fields: &mut Fields) -> Result<Option<Self>, Failure> {
        let tools = given(fields);
        let choice = fields.take("tool_choice");
        let parallel = fields.flag("parallel_tool_calls")?;
        let Some(tools) = tools else {
            return match choice {
                None => Ok(None),
                Some(Value::String(word)) if word == "none" || word == "auto" => Ok(None),
                Some(_) => Err(Failure::field("tool_choice", "`tool_choice` needs `tools`")),
            };
        };
        let tools = tools_of(tools)?;
        let choice = match choice {
            None => ToolChoice::Auto,
            Some(Value::String(word)) => ToolChoice::of_word(&word).ok_or_else(wrong_choice)?,
            Some(object) => {
                let mut object = Fields::of(object, "tool_choice")?;
                if object.text("type")?.as_deref() != Some("function") {
                    return Err(wrong_choice());
                }
                let function = object.take("function").ok_or_else(|| object.missing("function"))?;
                object.finish()?;
                let mut function = Fields::of(function, "tool_choice.function")?;
                let name = function.needed_text("name")?;
                function.finish()?;
                ToolChoice::Named(name)
            }
        };
        Self::of(tools, choice, parallel.unwrap_or(true)).map(Some)
    }

    /// `tools` alone, as OpenAI's chat has them, for who asks for no answer.
    pub fn listed(fields: &mut Fields) -> Result<Option<Self>, Failure> {
        given(fields).map(|tools| Self::of(tools_of(tools)?, ToolChoice::Auto, true)).transpose()
    }

    /// Tools that were read from a request of any protocol.
    pub fn of(tools: Vec<Tool>, choice: ToolChoice, parallel: bool) -> Result<Self, Failure> {
        if tools.is_empty() || tools.len() > TOOLS {
            let why = format!("`tools` must hold 1 to {TOOLS} tools, not {}", tools.len());
            return Err(Failure::field("tools", why));
        }
        if let ToolChoice::Named(name) = &choice
            && !tools.iter().any(|tool| tool.name == *name)
        {
            let name: String = name.chars().take(80).collect();
            return Err(Failure::field("tool_choice", format!("`tool_choice`: no tool is called '{name}'")));
        }
        if !parallel && choice == ToolChoice::Auto {
            let why = "`parallel_tool_calls`: false needs `tool_choice`: required, or a tool's name";
            return Err(Failure::unsupported("parallel_tool_calls", why));
        }
        Ok(Self { tools, choice, parallel })
    }

    /// The format in which a model calls tools; `None` when it is to call none.
    ///
    /// # Errors
    /// When its chat template knows no tools.
    pub fn format(&self, language: &Language) -> Result<Option<CallFormat>, Failure> {
        if self.choice == ToolChoice::None {
            return Ok(None);
        }
        let why = "the model's chat template knows no tools, or writes their calls in a format that is not known here";
        let format = language.calls.ok_or_else(|| Failure::unsupported("tools", why))?;
        Ok(Some(format))
    }

    /// What the chat template reads.
    pub fn variable(&self) -> Value {
        self.tools.iter().map(Tool::document).collect()
    }

    /// The form of an answer that must call tools; `None` where it may and need not.
    pub fn form(&self, format: CallFormat, vocabulary: &Vocabulary) -> Result<Option<Form>, Failure> {
        let allowed: Vec<&Tool> = match &self.choice {
            ToolChoice::Auto | ToolChoice::None => return Ok(None),
            ToolChoice::Required => self.tools.iter().collect(),
            ToolChoice::Named(name) => self.tools.iter().filter(|tool| tool.name == *name).collect(),
        };
        let key = if format == CallFormat::Llama { "parameters" } else { "arguments" };
        let call = |(i, tool): (usize, &&Tool)| {
            json!({
                "type": "object", "required": ["name", key], "additionalProperties": false,
                "properties": { "name": { "const": tool.name }, key: { "$ref": definition(i) } },
            })
        };
        let calls: Vec<Value> = allowed.iter().enumerate().map(call).collect();
        let arguments: Map<String, Value> = allowed
            .iter()
            .enumerate()
            .map(|(i, tool)| (format!("tool{i}"), referring_to(tool.parameters.clone(), &definition(i))))
            .collect();
        let schema = |mut value: Value| {
            value["$defs"] = Value::Object(arguments.clone());
            spaced(value)
        };
        let one = json!({ "anyOf": calls });
        let mark = |text: &str| vocabulary.mark(text);
        let many = self.parallel && !matches!(self.choice, ToolChoice::Named(_));
        let grammar = match format {
            CallFormat::Hermes => {
                let (begin, end) = (mark("<tool_call>"), mark("</tool_call>"));
                let more = if many { " (\"\\n\" call)*" } else { "" };
                format!(
                    "start: call{more}\ncall: {begin} \"\\n\" body \"\\n\" {end}\nbody: %json {}\n",
                    schema(one)?
                )
            }
            CallFormat::Llama => format!("start: body\nbody: %json {}\n", schema(one)?),
            CallFormat::Mistral => {
                let most = if many { json!({}) } else { json!({ "maxItems": 1 }) };
                let mut list = json!({ "type": "array", "items": one, "minItems": 1 });
                for (name, value) in most.as_object().into_iter().flatten() {
                    list[name] = value.clone();
                }
                format!("start: {} body\nbody: %json {}\n", mark("[TOOL_CALLS]"), schema(list)?)
            }
            CallFormat::Gemma => {
                let why = "`tool_choice`: this model's calls cannot be forced; use auto or none";
                return Err(Failure::unsupported("tool_choice", why));
            }
        };
        Ok(Some(Form::Lark(grammar)))
    }
}

/// Where the schema of a tool's arguments stands in the schema of a call.
fn definition(tool: usize) -> String {
    format!("#/$defs/tool{tool}")
}

/// A schema whose references to places of its own, `#/...`, are those of the document in which it stands at `place`.
fn referring_to(mut schema: Value, place: &str) -> Value {
    fn visit(value: &mut Value, place: &str) {
        match value {
            Value::Object(fields) => {
                for (name, value) in fields {
                    match (name.as_str(), value) {
                        ("$ref", Value::String(to)) if to.starts_with('#') => to.replace_range(..1, place),
                        // Values and not schemas.
                        ("const" | "enum" | "default" | "examples", _) => {}
                        (_, value) => visit(value, place),
                    }
                }
            }
            Value::Array(values) => values.iter_mut().for_each(|value| visit(value, place)),
            _ => {}
        }
    }
    visit(&mut schema, place);
    schema
}

fn wrong_choice() -> Failure {
    let what = "\"auto\", \"none\", \"required\" or {\"type\": \"function\", \"function\": {\"name\": ...}}";
    Failure::field("tool_choice", format!("`tool_choice` must be {what}"))
}

/// `tools`. Some clients send an empty list when there are none.
fn given(fields: &mut Fields) -> Option<Value> {
    fields.take("tools").filter(|tools| tools.as_array().is_none_or(|list| !list.is_empty()))
}

fn tools_of(tools: Value) -> Result<Vec<Tool>, Failure> {
    let Value::Array(list) = tools else { return Err(Failure::field("tools", "`tools` must be a list")) };
    list.into_iter().enumerate().map(|(i, tool)| tool_of(tool, i)).collect()
}

fn tool_of(value: Value, i: usize) -> Result<Tool, Failure> {
    let mut tool = Fields::of(value, &format!("tools[{i}]"))?;
    let kind = tool.needed_text("type")?;
    if kind != "function" {
        let kind: String = kind.chars().take(40).collect();
        let name = tool.name("type");
        return Err(Failure::unsupported(
            &name,
            format!("`{name}`: '{kind}' is not supported; tools are functions"),
        ));
    }
    let function = tool.take("function").ok_or_else(|| tool.missing("function"))?;
    tool.finish()?;
    function_of(Fields::of(function, &format!("tools[{i}].function"))?, "parameters")
}

/// `name`, `description`, `strict` and the schema of a function.
pub(crate) fn function_of(mut function: Fields, parameters: &str) -> Result<Tool, Failure> {
    let name = function.needed_text("name")?;
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.');
    if name.is_empty() || name.len() > 64 || !name.bytes().all(plain) {
        let place = function.name("name");
        let why = format!("`{place}` must have 1 to 64 letters, digits, `_`, `-` and `.`");
        return Err(Failure::field(place, why));
    }
    let description = function.text("description")?;
    function.flag("strict")?;
    let given =
        function.read(parameters, "a JSON schema", |value| value.is_object().then(|| value.clone()))?;
    function.finish()?;
    let nothing = || json!({ "type": "object", "properties": Map::new() });
    Ok(Tool { name, description, parameters: given.unwrap_or_else(nothing) })
}
