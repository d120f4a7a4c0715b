//! Mount options as people write them: a list, or what they paste for one. `option_list` and `pasted` read them.

use super::option_list::OptionList;
use super::options::MountOptions;
use super::pasted;

impl MountOptions {
    /// `text`, a comma-separated list as in fstab, over the defaults.
    ///
    /// # Errors
    /// What is wrong with all wrong words, to be put behind the text itself.
    pub fn over_defaults(text: &str) -> Result<Self, String> {
        Self::beside(text, &|_| false)
    }

    /// As [`Self::over_defaults`], in a share for which `held` says whether it has a key.
    ///
    /// # Errors
    /// What is wrong with all wrong words, to be put behind the text itself.
    pub fn beside(text: &str, held: &dyn Fn(&str) -> bool) -> Result<Self, String> {
        let options = match pasted::in_options(text) {
            Some(what) => Err(what),
            None => OptionList::read(text).checked(held),
        };
        options.map_err(|what| format!("is not possible: {what}"))
    }
}
