//! Writes config.json files at random, odd in every way that is still allowed.

pub const OURS: &str = "/usr/sbin/efs-agent";

/// A source of chance that is the same in every run.
pub struct Chance(pub u64);

impl Chance {
    pub fn below(&mut self, most: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) as usize % most
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    pub fn of<'t>(&mut self, texts: &[&'t str]) -> &'t str {
        texts[self.below(texts.len())]
    }
}

/// Writes one value, or a key and its value.
type Item<'i> = Box<dyn FnOnce(&mut Writer) + 'i>;

/// Writes a document as it goes.
pub struct Writer {
    chance: Chance,
    out: String,
    newline: &'static str,
    step: &'static str,
    /// How blanks are put: 0 minified, 1 as printers do it, 2 wildly.
    style: usize,
    colon: &'static str,
    depth: usize,
}

impl Writer {
    pub fn new(seed: u64) -> Self {
        let mut chance = Chance(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        chance.below(2);
        let newline = chance.of(&["\n", "\r\n", ""]);
        let step = chance.of(&["  ", "    ", "\t", "", " "]);
        let colon = chance.of(&[": ", ":", " : "]);
        let style = chance.below(3);
        Self { chance, out: String::new(), newline, step, style, colon, depth: 0 }
    }

    fn blank(&mut self) {
        if self.style == 2 {
            let newline = self.newline;
            let blank = self.chance.of(&["", " ", "\t", newline, "   ", ""]);
            self.out += blank;
        }
    }

    fn line(&mut self) {
        if self.style == 1 && !self.newline.is_empty() {
            self.out += self.newline;
            self.out += &self.step.repeat(self.depth);
        }
        self.blank();
    }

    /// `items` in brackets, each written by itself.
    fn list(&mut self, brackets: [&str; 2], items: Vec<Item<'_>>) {
        self.out += brackets[0];
        self.depth += 1;
        let empty = items.is_empty();
        for (place, item) in items.into_iter().enumerate() {
            if place > 0 {
                self.blank();
                self.out += ",";
            }
            self.line();
            item(self);
        }
        self.depth -= 1;
        if empty {
            self.blank()
        } else {
            self.line()
        }
        self.out += brackets[1];
    }

    /// A string in which some characters are escaped though they need not be.
    fn string(&mut self, text: &str) {
        self.out += "\"";
        for c in text.chars() {
            if self.chance.one_in(40) && (c as u32) < 0x10000 {
                self.out += &match self.chance.below(2) {
                    0 => format!("\\u{:04x}", c as u32),
                    _ => format!("\\u{:04X}", c as u32),
                };
            } else if c == '"' || c == '\\' || c == '/' && self.chance.one_in(20) {
                self.out.extend(['\\', c]);
            } else if c < ' ' {
                self.out += &format!("\\u{:04x}", c as u32);
            } else {
                self.out.push(c);
            }
        }
        self.out += "\"";
    }

    /// A key in some letter case.
    fn key(&mut self, key: &str) {
        let how = self.chance.below(8);
        let spelt: String = key
            .chars()
            .enumerate()
            .map(|(place, c)| match how {
                0 => c.to_ascii_uppercase(),
                1 => c.to_ascii_lowercase(),
                2 if place == 0 => c.to_ascii_uppercase(),
                3 if self.chance.one_in(2) => c.to_ascii_uppercase(),
                _ => c,
            })
            .collect();
        self.string(&spelt);
        self.blank();
        self.out += self.colon;
        self.blank();
    }

    /// Any value that this program does not read.
    fn anything(&mut self, deep: usize) {
        let texts =
            ["", "x", "ä\u{1f600}\"\\/\n\u{7f}", "SessionStart", "/usr/sbin/efs-agent", "system"];
        match self.chance.below(if deep == 0 { 4 } else { 6 }) {
            0 => self.out += self.chance.of(&["null", "true", "false"]),
            1 => {
                let numbers = [
                    "0",
                    "-0",
                    "1.50",
                    "1E5",
                    "-0.10e-05",
                    "1e400",
                    "123456789012345678901234567890",
                ];
                self.out += self.chance.of(&numbers);
            }
            2 | 3 => {
                let text = self.chance.of(&texts);
                self.string(text);
            }
            4 => {
                let items = (0..self.chance.below(4))
                    .map(|_| Box::new(move |w: &mut Self| w.anything(deep - 1)) as _);
                self.list(["[", "]"], items.collect());
            }
            _ => {
                let items = (0..self.chance.below(4)).map(|_| {
                    let key =
                        self.chance.of(&["a", "filename", "waitingTime", "SessionStart", "ü"]);
                    Box::new(move |w: &mut Self| {
                        w.key(key);
                        w.anything(deep - 1);
                    }) as _
                });
                let items = items.collect();
                self.list(["{", "}"], items);
            }
        }
    }

    /// An object of some of `members` in any order, with unknown ones between them.
    fn object(&mut self, members: Vec<(&str, Item<'_>)>) {
        let mut left = members;
        let mut items: Vec<Item<'_>> = Vec::new();
        while !left.is_empty() {
            if self.chance.one_in(4) {
                let key = self.chance.of(&["comment", "Version", "x", "session start", ""]);
                items.push(Box::new(move |w| {
                    w.key(key);
                    w.anything(3);
                }));
            }
            let (key, value) = left.remove(self.chance.below(left.len()));
            items.push(Box::new(move |w| {
                w.key(key);
                value(w);
            }));
        }
        self.list(["{", "}"], items);
    }

    /// A value, or `null` in its place now and then.
    fn or_null<'w>(&mut self, value: Item<'w>) -> Item<'w> {
        match self.chance.one_in(9) {
            true => Box::new(|w: &mut Self| w.out += "null"),
            false => value,
        }
    }

    fn entry(&mut self, context: &'static str) {
        let mut members: Vec<(&str, Item<'_>)> =
            vec![("context", Box::new(move |w| w.string(context)))];
        if !self.chance.one_in(4) {
            let known = ["", "", OURS, "/opt/a/efs-agent", "/opt/x.sh", "/s/efs-agent.sh"];
            let filename = self.chance.of(&known);
            let value = self.or_null(Box::new(move |w| w.string(filename)));
            members.push(("filename", value));
        }
        if !self.chance.one_in(4) {
            let arguments = self.chance.of(&["", "", "unmount", "-v \"a b\""]);
            let value = self.or_null(Box::new(move |w| w.string(arguments)));
            members.push(("arguments", value));
        }
        if !self.chance.one_in(4) {
            let logged = self.chance.of(&["true", "true", "false"]);
            let value = self.or_null(Box::new(move |w| w.out += logged));
            members.push(("s3LogEnabled", value));
        }
        self.object(members);
    }

    fn event(&mut self) {
        let mut members: Vec<(&str, Item<'_>)> = Vec::new();
        if !self.chance.one_in(5) {
            let contexts: &[&'static str] = match self.chance.below(6) {
                0 => &[],
                1 => &["user"],
                2 => &["system"],
                3 => &["user", "System"],
                _ => &["system", "user"],
            };
            let value = self.or_null(Box::new(move |w| {
                let items = contexts.iter().map(|c| Box::new(move |w: &mut Self| w.entry(c)) as _);
                let mut items: Vec<Item<'_>> = items.collect();
                if w.chance.one_in(9) {
                    items.push(Box::new(|w: &mut Self| w.out += "null"));
                }
                w.list(["[", "]"], items);
            }));
            members.push(("executables", value));
        }
        if !self.chance.one_in(5) {
            let times =
                ["30", "30.0", "3e1", "0.6E+2", "15", "0", "-1", "26.99", "27", "60", "61", "1e99"];
            let time = self.chance.of(&times);
            let value = self.or_null(Box::new(move |w| w.out += time));
            members.push(("waitingTime", value));
        }
        self.object(members);
    }

    pub fn document(mut self) -> String {
        if self.chance.one_in(5) {
            self.out += "\u{feff}";
        }
        self.blank();
        let mut members: Vec<(&str, Item<'_>)> = Vec::new();
        for name in ["SessionStart", "SessionTermination", "SessionOther"] {
            if !self.chance.one_in(5) {
                let value = self.or_null(Box::new(Self::event));
                members.push((name, value));
            }
        }
        self.object(members);
        if self.chance.one_in(2) {
            self.out += self.newline;
        }
        self.blank();
        self.out
    }
}
