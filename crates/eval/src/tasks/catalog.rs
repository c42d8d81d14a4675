//! The tasks that come with the program, and the way from names to tasks.

use std::path::Path;
use std::sync::Arc;

use crate::{Error, Result, TaskSpec};

/// Task files of this crate: name of the file and its text.
const FILES: [(&str, &str); 22] = [
    ("arc_challenge.toml", include_str!("../../tasks/arc_challenge.toml")),
    ("arc_easy.toml", include_str!("../../tasks/arc_easy.toml")),
    ("gsm8k.toml", include_str!("../../tasks/gsm8k.toml")),
    ("gsm8k_cot.toml", include_str!("../../tasks/gsm8k_cot.toml")),
    ("gsm8k_pot.toml", include_str!("../../tasks/gsm8k_pot.toml")),
    ("hellaswag.toml", include_str!("../../tasks/hellaswag.toml")),
    ("humaneval.toml", include_str!("../../tasks/humaneval.toml")),
    ("lambada_openai.toml", include_str!("../../tasks/lambada_openai.toml")),
    ("lambada_standard.toml", include_str!("../../tasks/lambada_standard.toml")),
    ("mbpp.toml", include_str!("../../tasks/mbpp.toml")),
    ("mini_arithmetic.toml", include_str!("../../tasks/mini_arithmetic.toml")),
    ("mini_arithmetic_mc.toml", include_str!("../../tasks/mini_arithmetic_mc.toml")),
    ("mini_code.toml", include_str!("../../tasks/mini_code.toml")),
    ("mini_prose_ppl.toml", include_str!("../../tasks/mini_prose_ppl.toml")),
    ("mmlu.toml", include_str!("../../tasks/mmlu.toml")),
    ("piqa.toml", include_str!("../../tasks/piqa.toml")),
    ("text_ppl.toml", include_str!("../../tasks/text_ppl.toml")),
    ("truthfulqa_mc1.toml", include_str!("../../tasks/truthfulqa_mc1.toml")),
    ("truthfulqa_mc2.toml", include_str!("../../tasks/truthfulqa_mc2.toml")),
    ("unfair_tos.toml", include_str!("../../tasks/unfair_tos.toml")),
    ("wikitext.toml", include_str!("../../tasks/wikitext.toml")),
    ("winogrande.toml", include_str!("../../tasks/winogrande.toml")),
];

/// The tasks of LLaMA Pro's Table 1 with their shots.
pub const PAPER: [(&str, usize); 9] = [
    ("arc_challenge", 25),
    ("hellaswag", 10),
    ("mmlu", 5),
    ("truthfulqa_mc2", 0),
    ("winogrande", 5),
    ("gsm8k", 5),
    ("gsm8k_pot", 8),
    ("humaneval", 0),
    ("mbpp", 3),
];

/// All tasks that can be asked for by name.
pub struct Catalog {
    tasks: Vec<Arc<TaskSpec>>,
    groups: Vec<Group>,
}

/// Tasks whose scores are averaged, each weighted by its documents.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    /// Name of the group.
    pub name: String,
    /// What tables call it.
    pub alias: String,
    /// Version of the group.
    pub version: f64,
    /// Tasks and groups inside.
    pub members: Vec<String>,
}

/// What was asked for.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// Tasks in the order asked for, each once, with the shots asked for by name.
    pub tasks: Vec<(Arc<TaskSpec>, Option<usize>)>,
    /// Groups that were asked for, and those inside them.
    pub groups: Vec<Group>,
}

impl Catalog {
    /// The tasks of this crate.
    ///
    /// # Errors
    /// A task file of this crate that is wrong, which a test rules out.
    pub fn builtin() -> Result<Self> {
        let mut catalog = Self { tasks: Vec::new(), groups: Vec::new() };
        for (name, text) in FILES {
            catalog.add(Path::new(name), text)?;
        }
        Ok(catalog)
    }

    /// Adds the task, or the family of tasks, of a file; its name replaces one that is there. Gives the name.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn add(&mut self, path: &Path, text: &str) -> Result<String> {
        let spec = TaskSpec::parse(path, &text.replace("{title}", "x").replace("{name}", "x"))?;
        let Some(family) = spec.family.clone() else {
            let spec = TaskSpec::parse(path, text)?;
            let name = spec.task.clone();
            self.tasks.retain(|task| task.task != name);
            self.tasks.push(Arc::new(spec));
            return Ok(name);
        };
        let mut whole = Group {
            name: family.group.clone(),
            alias: family.group.clone(),
            version: family.version,
            members: Vec::new(),
        };
        for part in &family.groups {
            let mut group = Group {
                name: part.group.clone(),
                alias: part.alias.clone(),
                version: family.version,
                members: Vec::new(),
            };
            for name in &part.names {
                let text = text.replace("{title}", &name.replace('_', " ")).replace("{name}", name);
                let spec = TaskSpec::parse(path, &text)?;
                group.members.push(spec.task.clone());
                self.tasks.push(Arc::new(spec));
            }
            whole.members.push(group.name.clone());
            self.groups.push(group);
        }
        self.groups.push(whole);
        Ok(family.group)
    }

    /// All names, groups first.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let groups = self.groups.iter().map(|group| group.name.as_str());
        groups.chain(self.tasks.iter().map(|task| task.task.as_str()))
    }

    /// Finds tasks by `NAME` or `NAME:SHOTS`, where a name may be a group or a task file that ends in `.toml`.
    ///
    /// # Errors
    /// [`Error::UnknownTask`] with the nearest name; a file that cannot be read.
    pub fn select<'a>(&mut self, names: impl IntoIterator<Item = &'a str>) -> Result<Selection> {
        let mut selection = Selection::default();
        for asked in names {
            let (name, shots) = match asked.rsplit_once(':') {
                Some((name, digits)) if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) => {
                    (name, digits.parse().ok())
                }
                _ => (asked, None),
            };
            if name.ends_with(".toml") {
                let path = Path::new(name);
                let text = std::fs::read_to_string(path).map_err(|e| Error::File {
                    path: path.to_path_buf(),
                    message: format!("cannot read the task file: {e}"),
                })?;
                let name = self.add(path, &text)?;
                self.take(&name, shots, &mut selection)?;
            } else {
                self.take(name, shots, &mut selection)?;
            }
        }
        Ok(selection)
    }

    fn take(&self, name: &str, shots: Option<usize>, selection: &mut Selection) -> Result<()> {
        if let Some(group) = self.groups.iter().find(|group| group.name == name) {
            if !selection.groups.contains(group) {
                selection.groups.push(group.clone());
            }
            return group.members.iter().try_for_each(|member| self.take(member, shots, selection));
        }
        let Some(task) = self.tasks.iter().find(|task| task.task == name) else {
            let near = self
                .names()
                .max_by(|a, b| strsim::jaro_winkler(a, name).total_cmp(&strsim::jaro_winkler(b, name)));
            return Err(Error::UnknownTask { name: name.to_owned(), near: near.unwrap_or("").to_owned() });
        };
        match selection.tasks.iter_mut().find(|(known, _)| known.task == name) {
            Some((_, known)) => *known = shots.or(*known),
            None => selection.tasks.push((Arc::clone(task), shots)),
        }
        Ok(())
    }
}
