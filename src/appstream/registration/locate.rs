//! Finds its way in config.json: where events, executables and their keys stand. Decides nothing.

use super::{Event, RegistrationError, Result};
use crate::config::ConfigError;
use crate::json::{Document, Member, Node, Value, quoted};
use std::path::Path;

/// What an entry is called where it is not an object.
const ENTRY: &str = "each of the executables";

/// A config.json.
pub struct Locator<'d> {
    pub file: &'d Path,
    pub document: &'d Document<'d>,
}

/// An event as it stands in the file.
pub struct EventNode<'d> {
    pub event: Event,
    /// The object; none if the file does not have the event.
    pub node: Option<&'d Node>,
    pub executables: Option<&'d Node>,
    pub entries: Vec<EntryNode<'d>>,
    pub waiting_time: Option<&'d Node>,
}

/// One of an event's executables.
pub struct EntryNode<'d> {
    pub node: &'d Node,
    /// In lower case.
    context: Option<String>,
}

impl EntryNode<'_> {
    pub fn is(&self, context: &str) -> bool {
        self.context.as_deref() == Some(context)
    }
}

/// A string; "" where there is none.
pub struct TextNode<'d> {
    pub node: Option<&'d Node>,
    pub text: &'d str,
}

impl<'d> Locator<'d> {
    /// The text of `node`, as the file has it.
    pub fn slice(&self, node: &Node) -> &'d str {
        self.document.slice(node.span.clone())
    }

    pub fn malformed(&self, place: usize, what: &str) -> RegistrationError {
        RegistrationError::Malformed(self.error_at(place, what))
    }

    pub fn error_at(&self, place: usize, what: &str) -> ConfigError {
        ConfigError::at(self.file, self.document.text, place, what)
    }

    pub fn wrong_kind(&self, key: &str, node: &Node, expected: &str) -> RegistrationError {
        let what = format!("{key} must be {expected}, not {}", node.value.kind());
        self.malformed(node.span.start, &what)
    }

    /// Reads an event as far as that is possible without looking into its entries.
    pub fn event(&self, event: Event) -> Result<EventNode<'d>> {
        let top = self.members("the outermost value", &self.document.root)?;
        let node = self.value(top, event.name())?;
        let members = match node {
            Some(node) => self.members(event.name(), node)?,
            None => &[],
        };

        let waiting_time = self.value(members, "waitingTime")?;
        let executables = self.value(members, "executables")?;
        let entries = self.entries(executables)?;
        Ok(EventNode { event, node, executables, entries, waiting_time })
    }

    fn entries(&self, executables: Option<&'d Node>) -> Result<Vec<EntryNode<'d>>> {
        let items = match executables.map(|node| (node, &node.value)) {
            None | Some((_, Value::Null)) => &[],
            Some((_, Value::Array(items))) => items.as_slice(),
            Some((node, _)) => return Err(self.wrong_kind("executables", node, "an array")),
        };
        let there = items.iter().filter(|node| node.value != Value::Null);
        there
            .map(|node| {
                let context = self.value(self.members(ENTRY, node)?, "context")?;
                let context = self.string("context", context)?.map(str::to_ascii_lowercase);
                Ok(EntryNode { node, context })
            })
            .collect()
    }

    /// The value that an entry has for `key`.
    pub fn value_of(&self, entry: &EntryNode<'d>, key: &str) -> Result<Option<&'d Node>> {
        self.value(self.members(ENTRY, entry.node)?, key)
    }

    /// The string that an entry has for `key`.
    pub fn text_of(&self, entry: &EntryNode<'d>, key: &str) -> Result<TextNode<'d>> {
        let node = self.value_of(entry, key)?;
        Ok(TextNode { node, text: self.string(key, node)?.unwrap_or("") })
    }

    /// The members of `node`, which is called `name`.
    fn members(&self, name: &str, node: &'d Node) -> Result<&'d [Member]> {
        match &node.value {
            Value::Object(members) => Ok(members),
            Value::Null => Ok(&[]),
            _ => Err(self.wrong_kind(name, node, "an object")),
        }
    }

    fn string(&self, key: &str, node: Option<&'d Node>) -> Result<Option<&'d str>> {
        match node.map(|node| (node, &node.value)) {
            None | Some((_, Value::Null)) => Ok(None),
            Some((_, Value::String(text))) => Ok(Some(text)),
            Some((node, _)) => Err(self.wrong_kind(key, node, "a string")),
        }
    }

    /// The value at `key`, in any letter case. Of two such keys, nobody knows which one counts.
    fn value(&self, members: &'d [Member], key: &str) -> Result<Option<&'d Node>> {
        let mut found = members.iter().filter(|member| member.key.eq_ignore_ascii_case(key));
        let first = found.next();

        if let (Some(first), Some(second)) = (first, found.next()) {
            let place = self.error_at(first.key_span.start, "");
            let what = format!(
                "{} is the same key as {} in line {}, column {}: take one of them out",
                quoted(&second.key),
                quoted(&first.key),
                place.line,
                place.column
            );
            return Err(self.malformed(second.key_span.start, &what));
        }
        Ok(first.map(|member| &member.value))
    }
}
