//! StarCoder's rules by language and extension: BigCode's table `visual_inspection.csv`, as bigcode-dataset's
//! `preprocessing/filtering.py` (`basic_filters_per_extension`) reads it.
//!
//! The table is not here; a recipe names the file. Its columns `language`, `extension`, `Include`, `Alphanum_threshold`,
//! `Long_line_threshold` and `Alpha filter` count. A threshold that is no number is none.

use std::collections::HashMap;
use std::path::Path;

use super::stats::{Stats, ratio};
use super::{Verdict, demand};
use crate::error::{Error, Result};

/// The key of the recipe.
const KEY: &str = "filters.starcoder.per-extension";

/// What one language and extension must be.
#[derive(Debug, PartialEq)]
struct Row {
    include: bool,
    longest: Option<usize>,
    alphanumeric: Option<f64>,
    alphabetic: Option<f64>,
}

/// The whole table.
pub(crate) struct Extensions {
    rows: HashMap<(String, String), Row>,
    digest: String,
}

impl Extensions {
    /// Reads the table.
    pub(crate) fn load(path: &Path) -> Result<Self> {
        let bytes = std::fs::read(path).map_err(Error::io("read", path))?;
        let refuse =
            |message: String| Error::Setting { key: KEY, message: format!("{}: {message}", path.display()) };
        let mut reader = csv::Reader::from_reader(bytes.as_slice());
        let names = reader.headers().map_err(|error| refuse(error.to_string()))?.clone();
        let column = |name: &str| {
            let at = names.iter().position(|header| header == name);
            at.ok_or_else(|| refuse(format!("no column `{name}`")))
        };
        let [language, extension, include, longest, alphanumeric, alphabetic] = [
            column("language")?,
            column("extension")?,
            column("Include")?,
            column("Long_line_threshold")?,
            column("Alphanum_threshold")?,
            column("Alpha filter")?,
        ];
        let mut rows = HashMap::new();
        for record in reader.records() {
            let record = record.map_err(|error| refuse(error.to_string()))?;
            let cell = |column: usize| record.get(column).unwrap_or_default();
            let row = Row {
                include: cell(include) == "1",
                longest: cell(longest).trim().parse().ok(),
                alphanumeric: cell(alphanumeric).trim().parse().ok(),
                alphabetic: cell(alphabetic).trim().parse().ok(),
            };
            rows.insert((cell(language).to_owned(), cell(extension).to_owned()), row);
        }
        if rows.is_empty() {
            return Err(refuse("no rows".to_owned()));
        }
        Ok(Self { rows, digest: blake3::hash(&bytes).to_hex().to_string() })
    }

    /// Over the content of the file.
    pub(crate) fn digest(&self) -> &str {
        &self.digest
    }

    /// `max_mean` is the mean length of lines where the row has a longest one.
    pub(super) fn judge(&self, language: &str, path: Option<&str>, stats: &Stats, max_mean: f64) -> Verdict {
        let language = match language {
            "c#" => "c-sharp".to_owned(),
            "f#" => "f-sharp".to_owned(),
            "cpp" => "c++".to_owned(),
            other => other.to_lowercase().replace(' ', "-"),
        };
        let name = path.and_then(|path| path.rsplit('/').next()).unwrap_or_default();
        let extension = name.rsplit_once('.').map_or("", |(_, extension)| extension).to_owned();
        let described = format!("extension {extension:?} of {language}");
        let row = self.rows.get(&(language, extension)).filter(|row| row.include);
        let Some(row) = row else {
            return demand(false, "starcoder/extension", || {
                format!("{described} is not in the table, or excluded")
            });
        };
        if let Some(most) = row.longest {
            super::code::longest("starcoder/max-line-length", stats, most)?;
            super::code::mean("starcoder/max-mean-line-length", stats, max_mean)?;
        }
        for (rule, what, counted, least) in [
            ("starcoder/min-alphanumeric", "letters and numbers", stats.alphanumeric, row.alphanumeric),
            ("starcoder/min-alphabetic", "letters", stats.alphabetic, row.alphabetic),
        ] {
            let share = ratio(counted, stats.chars);
            demand(least.is_none_or(|least| share >= least), rule, || {
                format!("{what} {share:.3}, at least {} for {described}", least.unwrap_or_default())
            })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_read_and_applied_as_bigcodes_script_does() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t.csv");
        // Made up; the columns are the table's, which has more.
        let head = ",extension,language,count,Name,Include,Alphanum_threshold,Long_line_threshold,,XML filter,Alpha filter\n";
        let rows = "1,py,python,1,A,1,0.25,1000,,1,\n2,pyx,python,1,\"A, B\",0,0.25,1000,,1,\n3,asm,assembly,1,A,1,0.25,\
                    Custom! See there,,1,remove\n4,cs,c-sharp,1,A,1,,500,,1,0.5\n5,,dockerfile,1,A,1,0.25,remove,,1,\n";
        std::fs::write(&path, format!("{head}{rows}")).unwrap();
        let table = Extensions::load(&path).unwrap();
        let long = |n: usize| "a".repeat(n) + &"\nab".repeat(30);
        let share = |letters: usize, digits: usize, n: usize| {
            "a".repeat(letters) + &"1".repeat(digits) + &"+".repeat(n - letters - digits)
        };
        for (language, path, text, expected) in [
            ("python", Some("a/b.py"), long(1000), ""),
            ("python", Some("a/b.py"), long(1001), "starcoder/max-line-length"),
            ("python", Some("b.py"), "a".repeat(101), "starcoder/max-mean-line-length"),
            ("python", Some("b.py"), share(10, 15, 100), ""),
            ("python", Some("b.py"), share(10, 14, 100), "starcoder/min-alphanumeric"),
            ("python", Some("b.pyx"), long(9), "starcoder/extension"),
            ("python", Some("b.txt"), long(9), "starcoder/extension"),
            ("python", None, long(9), "starcoder/extension"),
            ("assembly", Some("a.asm"), long(9000), ""),
            ("c#", Some("a.cs"), share(50, 0, 100), ""),
            ("c#", Some("a.cs"), share(49, 30, 100), "starcoder/min-alphabetic"),
            ("c#", Some("a.cs"), long(501), "starcoder/max-line-length"),
            ("dockerfile", Some("a.b/Dockerfile"), long(9000), ""),
        ] {
            let verdict = table.judge(language, path, &Stats::of(&text), 100.0);
            assert_eq!(verdict.map_or_else(|a| a.rule, |()| ""), expected, "{language} {path:?} {text:.40}");
        }
        std::fs::write(&path, "language,extension\npython,py\n").unwrap();
        let error = Extensions::load(&path).err().unwrap().to_string();
        assert!(
            error.contains("filters.starcoder.per-extension") && error.contains("no column `Include`"),
            "{error}"
        );
    }
}
