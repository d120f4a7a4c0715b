//! The lines of a `[[share]]` that an error advises to write. What they mean is not known here.

use std::fmt;

/// The key that turns encryption on.
pub const MAIN: &str = "encryption_in_transit";

/// The keys that are advised, in the order in which they are written.
const ORDER: &[&str] = &[
    "endpoint",
    "path",
    "mount_point",
    "options",
    "addresses",
    "required",
    MAIN,
    "iam",
    "access_point",
    "aws_profile",
    "trust",
];
/// The keys among them that need encryption.
const ENCRYPTED: &[&str] = &["iam", "access_point", "aws_profile", "trust"];

/// Lines of a `[[share]]`: keys, and their values as TOML.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ShareLines(Vec<(&'static str, String)>);

impl ShareLines {
    /// Adds a line, in the place of one with the same key. A key that needs encryption adds that line, too.
    pub fn put(&mut self, key: &'static str, value: String) {
        if ENCRYPTED.contains(&key) {
            self.put(MAIN, "true".into());
        }
        match self.0.iter_mut().find(|(held, _)| *held == key) {
            Some((_, held)) => *held = value,
            None => self.0.push((key, value)),
        }
        self.0.sort_by_key(|(key, _)| ORDER.iter().position(|known| known == key));
    }

    pub fn append(&mut self, others: Self) {
        others.0.into_iter().for_each(|(key, value)| self.put(key, value));
    }

    pub fn remove(&mut self, key: &str) {
        self.0.retain(|(held, _)| *held != key);
    }

    pub fn keys(&self) -> Vec<&'static str> {
        self.0.iter().map(|(key, _)| *key).collect()
    }

    pub fn has(&self, key: &str) -> bool {
        self.0.iter().any(|(held, _)| *held == key)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn is_one(&self) -> bool {
        self.0.len() == 1
    }
}

impl fmt::Display for ShareLines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let last = self.0.len().saturating_sub(1);
        for (at, (key, value)) in self.0.iter().enumerate() {
            let between = match at {
                0 => "",
                at if at == last => " and ",
                _ => ", ",
            };
            write!(f, "{between}{key} = {value}")?;
        }
        Ok(())
    }
}
