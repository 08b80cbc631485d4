//! `openapi.yaml`, and whether an answer is one that it describes.
//!
//! Its schemas are compiled once per process. No message repeats a body: it may hold a seed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, LazyLock};

use anyhow::{Context as _, Result, anyhow, ensure};
use jsonschema::Validator;
use reqwest::Method;
use serde_json::{Map, Value, json};

use crate::Answer;

const TEXT: &str = include_str!("../../openapi.yaml");

static CONTRACT: LazyLock<Result<Contract>> = LazyLock::new(Contract::load);

/// What the API promises.
#[derive(Debug)]
pub struct Contract {
    /// The whole file.
    pub document: Value,
    /// Its operations.
    pub operations: Vec<Operation>,
    /// The answer where there is no operation.
    no_route: Promise,
}

/// A method of a path.
#[derive(Debug)]
pub struct Operation {
    /// Its `operationId`.
    pub id: String,
    /// The method.
    pub method: Method,
    /// The path below the stage, such as `/deviceAuthentications/{authId}`.
    pub path: String,
    /// The answers that it has, by status.
    pub answers: BTreeMap<u16, Promise>,
}

/// What an answer has.
#[derive(Debug)]
pub struct Promise {
    /// The codes of its errors: those of the examples.
    pub codes: BTreeSet<String>,
    headers: BTreeMap<String, Header>,
    body: Option<Arc<Validator>>,
}

#[derive(Debug)]
struct Header {
    required: bool,
    is_integer: bool,
    value: Arc<Validator>,
}

impl Contract {
    /// The contract of this checkout.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn get() -> Result<&'static Self> {
        CONTRACT.as_ref().map_err(|error| anyhow!("openapi.yaml: {error:#}"))
    }

    fn load() -> Result<Self> {
        let document = local::template::yaml_to_json(TEXT)?;
        let mut reader = Reader {
            document: &document,
            compiled: BTreeMap::new(),
        };
        let mut operations = Vec::new();
        for (path, item) in members(&document, "/paths")? {
            for (method, operation) in item.as_object().context("a path is not an object")? {
                if method != "parameters" {
                    let id = text(operation, "/operationId")?;
                    operations.push(
                        reader
                            .operation(id, method, path, operation)
                            .with_context(|| id.to_owned())?,
                    );
                }
            }
        }
        let no_route = reader.promise(&json!({ "$ref": "#/components/responses/RouteNotFound" }))?;
        Ok(Self {
            document,
            operations,
            no_route,
        })
    }

    /// What a reference stands for, or the value itself.
    ///
    /// # Errors
    /// If it stands for nothing.
    pub fn resolve<'a>(&'a self, value: &'a Value) -> Result<&'a Value> {
        resolve(&self.document, value)
    }

    /// The schema of a name, as a validator.
    ///
    /// # Errors
    /// If there is none.
    pub fn validator(&self, schema: &Value) -> Result<Validator> {
        compile(&self.document, schema)
    }

    /// Checks an answer to a request; `path` is below the stage, without a query.
    ///
    /// # Errors
    /// What is not as described.
    pub fn check(&self, method: &Method, path: &str, answer: &Answer) -> Result<()> {
        let found = self
            .operations
            .iter()
            .find(|operation| operation.is_called(method, path));
        let (id, promise) = match found {
            Some(operation) => (operation.id.as_str(), operation.answers.get(&answer.status)),
            None => ("no operation", (answer.status == 404).then_some(&self.no_route)),
        };
        let code = answer.code();
        let what = || format!("openapi.yaml, {id}: {} {code}", answer.status);
        let promise = promise.context("the status is not described").with_context(what)?;
        self.check_headers(promise, answer).with_context(what)?;
        promise.check_body(answer).with_context(what)
    }

    fn check_headers(&self, promise: &Promise, answer: &Answer) -> Result<()> {
        // A function sends a 401 only where the deployment is wrong, and the gateway renames this header of a function.
        let of_a_function = answer.status == 401 && !answer.member("timestamp").is_null();
        for (name, header) in &promise.headers {
            let sent = match name.as_str() {
                "WWW-Authenticate" if of_a_function => format!("x-amzn-remapped-{name}"),
                _ => name.clone(),
            };
            match answer.headers.get(&sent) {
                Some(value) => header.check(value.to_str()?).with_context(|| name.clone())?,
                None => ensure!(!header.required, "the header {sent} is missing"),
            }
        }
        let answers = self.operations.iter().flat_map(|operation| operation.answers.values());
        for name in answers.flat_map(|answer| answer.headers.keys()) {
            let described = promise.headers.contains_key(name) || !answer.headers.contains_key(name);
            ensure!(described, "the header {name} is not described for it");
        }
        Ok(())
    }
}

impl Operation {
    /// Whether a request goes here. A slash at the end makes no difference, as at the gateway.
    fn is_called(&self, method: &Method, path: &str) -> bool {
        let (wanted, sent) = (self.path.split('/'), path.strip_suffix('/').unwrap_or(path).split('/'));
        self.method == *method
            && wanted.clone().count() == sent.clone().count()
            && wanted
                .zip(sent)
                .all(|(wanted, sent)| wanted == sent || (wanted.starts_with('{') && !sent.is_empty()))
    }
}

impl Promise {
    fn check_body(&self, answer: &Answer) -> Result<()> {
        let Some(validator) = &self.body else {
            ensure!(answer.text.is_empty(), "there is a body");
            return Ok(());
        };
        ensure!(
            answer.header("content-type") == "application/json",
            "the content type is another"
        );
        let body = serde_json::from_str(&answer.text).context("the body is not JSON")?;
        validate(validator, &body)?;
        ensure!(
            answer.status < 400 || self.codes.contains(&answer.code()),
            "the code is not described for it"
        );
        Ok(())
    }
}

impl Header {
    fn check(&self, value: &str) -> Result<()> {
        let value = if self.is_integer {
            json!(value.parse::<u64>().context("not a number")?)
        } else {
            json!(value)
        };
        validate(&self.value, &value)
    }
}

/// Checks a value; the message does not show it.
fn validate(validator: &Validator, value: &Value) -> Result<()> {
    let faults = validator.iter_errors(value);
    let faults: Vec<_> = faults
        .map(|fault| format!("{}: {}", fault.instance_path(), fault.masked()))
        .collect();
    ensure!(faults.is_empty(), "{}", faults.join("; "));
    Ok(())
}

fn compile(document: &Value, schema: &Value) -> Result<Validator> {
    let whole = json!({ "allOf": [schema], "components": document.get("components") });
    let compiled = jsonschema::options().should_validate_formats(true).build(&whole);
    compiled.map_err(|error| anyhow!("{error}"))
}

fn resolve<'a>(document: &'a Value, value: &'a Value) -> Result<&'a Value> {
    match value.get("$ref").and_then(Value::as_str) {
        Some(reference) => reference
            .strip_prefix('#')
            .and_then(|pointer| document.pointer(pointer))
            .with_context(|| format!("{reference} does not exist")),
        None => Ok(value),
    }
}

fn text<'a>(value: &'a Value, pointer: &str) -> Result<&'a str> {
    value
        .pointer(pointer)
        .and_then(Value::as_str)
        .with_context(|| format!("{pointer} is no text"))
}

fn members<'a>(value: &'a Value, pointer: &str) -> Result<&'a Map<String, Value>> {
    value
        .pointer(pointer)
        .and_then(Value::as_object)
        .with_context(|| format!("{pointer} is no object"))
}

/// Reads the file; equal schemas are compiled once.
struct Reader<'a> {
    document: &'a Value,
    compiled: BTreeMap<String, Arc<Validator>>,
}

impl Reader<'_> {
    fn operation(&mut self, id: &str, method: &str, path: &str, operation: &Value) -> Result<Operation> {
        let mut answers = BTreeMap::new();
        for (status, answer) in members(operation, "/responses")? {
            answers.insert(status.parse()?, self.promise(answer).with_context(|| status.clone())?);
        }
        Ok(Operation {
            id: id.to_owned(),
            method: method.to_uppercase().parse()?,
            path: path.to_owned(),
            answers,
        })
    }

    fn promise(&mut self, answer: &Value) -> Result<Promise> {
        let answer = resolve(self.document, answer)?;
        let mut headers = BTreeMap::new();
        for (name, header) in members(answer, "/headers")? {
            let header = resolve(self.document, header)?;
            let schema = header.get("schema").with_context(|| name.clone())?;
            headers.insert(
                name.clone(),
                Header {
                    required: header.get("required") == Some(&Value::Bool(true)),
                    is_integer: schema.get("type").is_some_and(|kind| kind == "integer"),
                    value: self.validator(schema)?,
                },
            );
        }
        let (mut codes, mut body) = (BTreeSet::new(), None);
        if answer.get("content").is_some() {
            let content = answer
                .pointer("/content/application~1json")
                .context("the body is not JSON")?;
            body = Some(self.validator(content.get("schema").context("there is no schema")?)?);
            for example in members(content, "/examples")?.values() {
                let code = resolve(self.document, example)?.pointer("/value/code");
                codes.extend(code.and_then(Value::as_str).map(str::to_owned));
            }
        }
        Ok(Promise { codes, headers, body })
    }

    fn validator(&mut self, schema: &Value) -> Result<Arc<Validator>> {
        let key = schema.to_string();
        if let Some(compiled) = self.compiled.get(&key) {
            return Ok(Arc::clone(compiled));
        }
        let compiled = Arc::new(compile(self.document, schema)?);
        self.compiled.insert(key, Arc::clone(&compiled));
        Ok(compiled)
    }
}
