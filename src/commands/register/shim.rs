//! The script beside config.json that starts this program. It exists because AppStream's
//! documentation speaks of scripts alone.

use super::error::RegisterError;
use super::file::read;
use crate::appstream::registration::SHIM;
use crate::files::{Like, Place, Version};
use crate::text::word;
use std::fs::File;

const HEAD: &str = "#!/bin/sh\nexec ";
const TAIL: &str = " \"$@\"\n";

/// The script that starts `program`.
pub fn script(program: &str) -> String {
    format!("{HEAD}{}{TAIL}", word(program))
}

fn is_script(text: &[u8]) -> bool {
    let program = text.strip_prefix(HEAD.as_bytes());
    let program = program.and_then(|rest| rest.strip_suffix(TAIL.as_bytes()));
    program.is_some_and(|program| !program.contains(&b'\n'))
}

/// The script's place, and what is to become of it.
pub struct Shim {
    pub place: Place,
    pub step: ShimStep,
}

pub enum ShimStep {
    Keep,
    /// The new text, and the version of the file that is there now.
    Write(String, Option<Version>),
    Remove,
}

impl Shim {
    /// Decides what is to become of the script beside `config`. `None` takes a script of
    /// efs-agent's away.
    ///
    /// # Errors
    /// Why there cannot be one, where there is to be one.
    pub fn plan(wanted: Option<&str>, config: &Place) -> Result<Self, RegisterError> {
        let place = config.beside(SHIM);
        let found = match (wanted, read(&place)) {
            // A file that cannot be read is not ours, and stays.
            (None, Err(_)) => None,
            (_, found) => found?,
        };
        let is_ours = found.as_ref().is_none_or(|found| is_script(&found.bytes));

        let step = match (wanted, found) {
            (Some(_), Some(_)) if !is_ours => {
                return Err(RegisterError::ForeignShim(place.path().to_owned()));
            }
            (Some(text), Some(found))
                if found.bytes == text.as_bytes() && found.like == Like::root(0o755) =>
            {
                ShimStep::Keep
            }
            (Some(text), found) => ShimStep::Write(text.to_owned(), found.map(|f| f.version)),
            (None, Some(_)) if is_ours => ShimStep::Remove,
            (None, _) => ShimStep::Keep,
        };
        Ok(Self { place, step })
    }

    pub fn is_kept(&self) -> bool {
        matches!(self.step, ShimStep::Keep)
    }

    /// Writes the script, if that is the step. Returns whether there was none before.
    pub fn write(&self, folder: &File) -> Result<bool, RegisterError> {
        let ShimStep::Write(text, version) = &self.step else {
            return Ok(false);
        };
        let written = self.place.replace(folder, text.as_bytes(), &Like::root(0o755), *version);
        written.map_err(|e| RegisterError::Unwritten(self.place.path().to_owned(), e))?;
        Ok(version.is_none())
    }

    /// Removes the script, if that is the step.
    pub fn remove(&self, folder: &File) -> Result<(), RegisterError> {
        let ShimStep::Remove = self.step else {
            return Ok(());
        };
        let removed = self.place.remove(folder);
        removed.map_err(|errno| RegisterError::Unremoved(self.place.path().to_owned(), errno))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_is_ours_only_if_it_does_nothing_but_start_a_program() {
        assert_eq!(script("/usr/sbin/efs-agent"), "#!/bin/sh\nexec /usr/sbin/efs-agent \"$@\"\n");
        assert_eq!(script("/it's/a"), "#!/bin/sh\nexec '/it'\\''s/a' \"$@\"\n");
        for ours in ["/usr/sbin/efs-agent", "/it's/a"] {
            assert!(is_script(script(ours).as_bytes()));
        }
        for theirs in [
            "",
            "#!/bin/sh\nexec a\nb \"$@\"\n",
            "#!/bin/bash\nexec a \"$@\"\n",
            "#!/bin/sh\nexec a\n",
        ] {
            assert!(!is_script(theirs.as_bytes()), "{theirs}");
        }
    }
}
