//! A model that a server runs, through OpenAI's chat completions; likelihoods of texts through its completions.

mod likelihoods;

use std::collections::HashMap;
use std::path::Path;
use std::sync::Mutex;
use std::thread::sleep;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use percept::data::{Blob, Kind};
use percept::eval::remote::{LIKELIEST, Refused, Said};
use percept::eval::task::{By, Compare, Question, Task};
use percept::modalities::Part;
use percept::pull::JsonClient;
use serde_json::{Value, json};

use crate::cli::Failure;

/// The time that one answer may take.
const TIME: Duration = Duration::from_secs(600);
/// How often a question is put again to a server that is busy or not there, after 1, 2, 4 ... seconds.
const TRIES: u32 = 5;
/// The variable that holds the server's key.
const KEY: &str = "OPENAI_API_KEY";

/// A server and the model that it is asked for.
pub struct Server {
    client: JsonClient,
    /// The model's name.
    pub model: String,
    /// The tokens of options, which many questions share, by their texts.
    options: Mutex<HashMap<String, Vec<i32>>>,
}

/// The address that a model is given as, if it is one.
pub fn address(model: &Path) -> Option<&str> {
    model.to_str().filter(|text| text.starts_with("http://") || text.starts_with("https://"))
}

impl Server {
    /// A server at an address, and one of its models; the first that it lists where none is named.
    pub fn open(address: &str, model: Option<&str>) -> Result<Self, Failure> {
        let key = std::env::var(KEY).ok().filter(|key| !key.is_empty());
        let client = JsonClient::new(address, key, TIME)?;
        let model = match model {
            Some(model) => model.to_owned(),
            None => {
                let (status, listed) = client.get("models").map_err(Failure::Negative)?;
                let first = listed["data"][0]["id"].as_str().map(str::to_owned);
                let why = format!(
                    "{address}/models answers with status {status} and lists no model; name one with --served"
                );
                first.ok_or(Failure::Negative(why))?
            }
        };
        Ok(Self { client, model, options: Mutex::default() })
    }

    /// Put a question.
    pub fn ask(&self, task: &Task, question: &Question) -> Result<Said, Refused> {
        if task.score.by == By::Likelihood && task.score.compare == Compare::Texts {
            return self.compare(question);
        }
        said(task, &self.post("chat/completions", &self.body(task, question)?)?)
    }

    /// Put a document to a path below the address, again where the server is busy.
    fn post(&self, path: &str, body: &Value) -> Result<Value, Refused> {
        let mut wait = Duration::from_secs(1);
        for attempt in 1.. {
            let is_last = attempt == TRIES;
            let why = match self.client.post(path, body) {
                Ok((200, answer)) => return Ok(answer),
                Ok((501, answer)) => {
                    return Err(Refused::Server(format!(
                        "{path}: the server does not have this: {}",
                        message(&answer)
                    )));
                }
                Ok((status @ (408 | 429 | 500..), answer)) => {
                    format!("status {status}: {}", message(&answer))
                }
                Ok((status @ (401 | 403 | 404), answer)) => {
                    return Err(Refused::Server(format!(
                        "{path}: the server answers with status {status}: {}",
                        message(&answer)
                    )));
                }
                Ok((status, answer)) => {
                    return Err(Refused::Question(format!("status {status}: {}", message(&answer))));
                }
                Err(why) => why,
            };
            if is_last {
                return Err(Refused::Server(format!(
                    "{path}: the server did not answer {TRIES} times: {why}"
                )));
            }
            sleep(wait);
            wait *= 2;
        }
        Err(Refused::Server("the server did not answer".into()))
    }

    /// A question as a conversation, and what the template reads beside it.
    fn conversation(&self, question: &Question) -> Result<Value, Refused> {
        let mut media = question.media.iter().flatten();
        let messages: Vec<Value> = question
            .messages()
            .iter()
            .map(|message| {
                let parts: Vec<Value> =
                    message.content.parts().iter().filter_map(|p| part(p, &mut media)).collect();
                let content = match parts.is_empty() {
                    true => json!(message.content.texts().collect::<String>()),
                    false => json!(parts),
                };
                json!({"role": message.role, "content": content})
            })
            .collect();
        let mut body = json!({"model": self.model, "messages": messages});
        let mut variables = question.variables.clone().map_err(Refused::Question)?;
        if let Some(tools) = variables.remove("tools") {
            body["tools"] = tools;
        }
        if !variables.is_empty() {
            body["chat_template_kwargs"] = Value::Object(variables);
        }
        Ok(body)
    }

    fn body(&self, task: &Task, question: &Question) -> Result<Value, Refused> {
        let mut body = self.conversation(question)?;
        body["max_tokens"] = json!(task.ask.max_tokens);
        body["temperature"] = json!(0);
        if !task.ask.stop.is_empty() {
            body["stop"] = json!(task.ask.stop);
        }
        if task.score.by == By::Likelihood {
            body["max_tokens"] = json!(1);
            body["logprobs"] = json!(true);
            body["top_logprobs"] = json!(LIKELIEST);
        }
        Ok(body)
    }
}

/// A part of a message as OpenAI's API has it, with the next medium where it shows one.
fn part<'m>(part: &Part, media: &mut impl Iterator<Item = &'m Blob>) -> Option<Value> {
    if let Some(text) = part.text() {
        return Some(json!({"type": "text", "text": text}));
    }
    let blob = media.next()?;
    let data = STANDARD.encode(&blob.bytes);
    let extension = if blob.extension == "jpg" { "jpeg" } else { &blob.extension };
    Some(match blob.kind {
        Kind::Image => {
            json!({"type": "image_url", "image_url": {"url": format!("data:image/{extension};base64,{data}")}})
        }
        Kind::Video => {
            json!({"type": "video_url", "video_url": {"url": format!("data:video/{extension};base64,{data}")}})
        }
        Kind::Audio => json!({"type": "input_audio", "input_audio": {"data": data, "format": extension}}),
    })
}

fn said(task: &Task, answer: &Value) -> Result<Said, Refused> {
    let choice = &answer["choices"][0];
    let top = choice["logprobs"]["content"][0]["top_logprobs"].as_array();
    let of = |token: &Value| Some((token["token"].as_str()?.to_owned(), token["logprob"].as_f64()?));
    let likeliest: Vec<(String, f64)> = top.into_iter().flatten().filter_map(of).collect();
    if task.score.by == By::Likelihood && likeliest.is_empty() {
        let why = "the server tells no choices[0].logprobs.content[0].top_logprobs, and the task compares likelihoods";
        return Err(Refused::Server(why.into()));
    }
    let text = choice["message"]["content"].as_str();
    let text = text
        .ok_or_else(|| Refused::Server("the server's answer holds no choices[0].message.content".into()))?;
    let count =
        |key: &str| answer["usage"][key].as_u64().and_then(|count| usize::try_from(count).ok()).unwrap_or(0);
    Ok(Said {
        text: text.to_owned(),
        tokens: [count("prompt_tokens"), count("completion_tokens")],
        cut: choice["finish_reason"] == "length",
        likeliest,
        options: Vec::new(),
    })
}

/// What a server says of an error.
fn message(answer: &Value) -> String {
    let found = answer["error"]["message"].as_str().or_else(|| answer["error"].as_str());
    found.map_or_else(|| answer.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;

    use super::*;

    /// A server that answers each request with the next of some statuses and bodies, and gives back what it was sent.
    fn server(answers: Vec<(u16, &'static str)>) -> (String, std::thread::JoinHandle<Vec<String>>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}/v1", listener.local_addr().unwrap());
        let served = std::thread::spawn(move || {
            let serve = |(status, body): (u16, &str)| {
                let mut stream = listener.accept().unwrap().0;
                let (mut request, mut buffer) = (Vec::new(), [0; 4096]);
                loop {
                    let read = stream.read(&mut buffer).unwrap();
                    request.extend(&buffer[..read]);
                    let text = String::from_utf8_lossy(&request);
                    let Some((head, rest)) = text.split_once("\r\n\r\n") else { continue };
                    let length = head
                        .lines()
                        .find_map(|l| l.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
                    if rest.len() >= length.unwrap_or(0) {
                        break;
                    }
                }
                let head = format!(
                    "HTTP/1.1 {status} x\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                    body.len()
                );
                stream.write_all((head + body).as_bytes()).unwrap();
                String::from_utf8_lossy(&request).into_owned()
            };
            answers.into_iter().map(serve).collect()
        });
        (address, served)
    }

    #[test]
    fn a_question_is_put_as_openai_has_it_and_again_where_the_server_is_busy() {
        let answer = r#"{"choices": [{"message": {"content": " B "}, "finish_reason": "length"}], "usage": {"prompt_tokens": 7}}"#;
        let refused = r#"{"error": {"message": "too long"}}"#;
        let list = r#"{"data": [{"id": "tiny"}]}"#;
        let (address, served) =
            server(vec![(200, list), (429, "{}"), (200, answer), (400, refused), (404, refused)]);
        let server = Server::open(&address, None).unwrap();
        assert_eq!(server.model, "tiny");
        let task = Task::find("pope").unwrap();
        let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("eval/tests/golden/tasks/pope");
        let raw = task.questions(&data).unwrap().next().unwrap().unwrap();
        let question = task.question(&raw).unwrap();
        let said = server.ask(&task, &question).unwrap();
        assert_eq!((said.text.as_str(), said.tokens, said.cut), (" B ", [7, 0], true));
        assert!(
            matches!(server.ask(&task, &question), Err(Refused::Question(why)) if why.contains("too long"))
        );
        assert!(matches!(server.ask(&task, &question), Err(Refused::Server(why)) if why.contains("404")));
        let requests = served.join().unwrap();
        assert!(
            requests[0].starts_with("GET /v1/models ")
                && requests[2].starts_with("POST /v1/chat/completions ")
        );
        let body: Value = serde_json::from_str(requests[2].split_once("\r\n\r\n").unwrap().1).unwrap();
        assert_eq!(
            (&body["temperature"], &body["max_tokens"], &body["model"]),
            (&json!(0), &json!(128), &json!("tiny"))
        );
        let parts = body["messages"][0]["content"].as_array().unwrap();
        assert!(
            parts[0]["image_url"]["url"].as_str().unwrap().starts_with("data:image/png;base64,"),
            "{}",
            parts[0]
        );
        assert!(parts[1]["text"].as_str().unwrap().starts_with("Is there a dog"), "{}", parts[1]);
    }

    #[test]
    fn options_are_compared_by_the_likeliest_first_tokens() {
        let list = r#"{"data": [{"id": "tiny"}]}"#;
        let answer = r#"{"choices": [{"message": {"content": "The"}, "logprobs": {"content": [{"token": "The", "logprob": -0.5,
            "top_logprobs": [{"token": "The", "logprob": -0.5}, {"token": " C", "logprob": -1.5}]}]}}]}"#;
        let silent = r#"{"choices": [{"message": {"content": "A"}}]}"#;
        let (address, served) = server(vec![(200, list), (200, answer), (200, silent)]);
        let server = Server::open(&address, None).unwrap();
        let task = Task::find("mmlu").unwrap();
        let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("eval/tests/golden/tasks/mmlu");
        let raw = task.questions(&data).unwrap().next().unwrap().unwrap();
        let question = task.question(&raw).unwrap();
        let said = server.ask(&task, &question).unwrap();
        assert_eq!(said.likeliest, [("The".to_owned(), -0.5), (" C".to_owned(), -1.5)]);
        assert!(
            matches!(server.ask(&task, &question), Err(Refused::Server(why)) if why.contains("top_logprobs"))
        );
        let requests = served.join().unwrap();
        let body: Value = serde_json::from_str(requests[1].split_once("\r\n\r\n").unwrap().1).unwrap();
        assert_eq!(
            (&body["max_tokens"], &body["logprobs"], &body["top_logprobs"]),
            (&json!(1), &json!(true), &json!(20))
        );
    }
}
