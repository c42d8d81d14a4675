//! Parquet: columns of every string type as pyarrow 25 writes them, and files that are damaged.

use std::path::Path;
use std::sync::Arc;

use llama_pro_corpus::Error;
use parquet::data_type::{ByteArray, ByteArrayType};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;

use super::pipeline::run;
use super::support::{folder, read, texts};

pub(crate) fn fixture(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(format!("{name}.parquet"));
    std::fs::read(path).unwrap()
}

/// A file of columns that say they are UTF-8, in row groups of three; rows are what the columns hold.
pub(crate) fn parquet(names: &[&str], rows: &[Vec<&[u8]>]) -> Vec<u8> {
    let columns: String = names.iter().map(|name| format!("required binary {name} (UTF8); ")).collect();
    let schema = Arc::new(parse_message_type(&format!("message schema {{ {columns} }}")).unwrap());
    let mut file = Vec::new();
    let mut writer = SerializedFileWriter::new(&mut file, schema, Arc::default()).unwrap();
    for rows in rows.chunks(3) {
        let mut group = writer.next_row_group().unwrap();
        for column in 0..names.len() {
            let cells: Vec<ByteArray> = rows.iter().map(|row| row[column].to_vec().into()).collect();
            let mut writer = group.next_column().unwrap().unwrap();
            writer.typed::<ByteArrayType>().write_batch(&cells, None, None).unwrap();
            writer.close().unwrap();
        }
        group.close().unwrap();
    }
    writer.close().unwrap();
    file
}

#[test]
fn a_cell_that_is_no_text_costs_one_document() {
    let bad = [b"\xff\xfe".as_slice(), &[0xc3; 5000]].concat();
    let texts: Vec<String> = (0..8).map(|i| format!("row {i}")).collect();
    let rows = |bad_row: usize, bad_column: usize| -> Vec<Vec<&[u8]>> {
        let cell =
            |row: usize, column: usize, text: &'static str| match (row, column) == (bad_row, bad_column) {
                true => bad.as_slice(),
                false if column == 1 => texts[row].as_bytes(),
                false => text.as_bytes(),
            };
        (0..8).map(|row| vec![cell(row, 0, "p.py"), cell(row, 1, ""), cell(row, 2, "python")]).collect()
    };
    for bad_row in 0..8 {
        for (bad_column, whole) in [(0, 7), (1, 7), (2, 7), (9, 8)] {
            let file = parquet(&["path", "content", "lang"], &rows(bad_row, bad_column));
            let dir = folder(&[("p/a.parquet", &file)]);
            let toml =
                "kind = \"parquet\"\npath = \"p\"\nfields = { path = \"path\", language = \"lang\" }\n";
            let (documents, counts) = read(toml, dir.path()).unwrap();
            let expected: Vec<&str> =
                (0..8).filter(|&i| whole == 8 || i != bad_row).map(|i| texts[i].as_str()).collect();
            assert_eq!(super::support::texts(&documents), expected, "{bad_row} {bad_column}");
            assert!(documents.iter().all(|d| d.meta.language.as_deref() == Some("python")));
            assert_eq!(counts.failed.get("not-utf8").copied().unwrap_or(0), 8 - whole);
        }
    }
    // A column that nothing asks for may hold anything.
    let dir = folder(&[("p/a.parquet", &parquet(&["path", "content", "lang"], &rows(3, 0)))]);
    assert_eq!(read("kind = \"parquet\"\npath = \"p\"\n", dir.path()).unwrap().0.len(), 8);
}

const STACK: &str = "kind = \"parquet\"\npath = \"p\"\n[fields]\npath = \"max_stars_repo_path\"\n\
                     license = \"max_stars_repo_licenses\"\n";

#[test]
fn every_string_type_is_read_with_its_metadata() {
    let expected = [
        "def f():\n    return 1\n",
        "second text, with ünïcode and \"quotes\"\n",
        &"third\n".repeat(5),
        "fourth row\n",
    ];
    for name in ["string", "large_string", "string_view", "binary"] {
        let dir = folder(&[("p/a.parquet", &fixture(name))]);
        let (documents, counts) = read(STACK, dir.path()).unwrap();
        assert_eq!(texts(&documents), expected, "{name}");
        assert_eq!((counts.seen, documents[1].id.as_str()), (4, "a.parquet:2"));
        assert_eq!(documents[1].meta.path.as_deref(), Some("a/1.py"));
        assert_eq!(documents[1].meta.license, ["Apache-2.0", "MIT"]);
        assert!(documents[3].meta.license.is_empty());
    }
}

#[test]
fn missing_columns_and_wrong_types_are_named() {
    let dir = folder(&[("p/a.parquet", &fixture("string"))]);
    let error = |toml: &str| read(toml, dir.path()).unwrap_err().to_string();
    let found = error("kind = \"parquet\"\npath = \"p\"\ntemplate = \"{text}\"\n");
    assert!(
        found.contains("none of the columns text; the file has: content, max_stars_repo_path"),
        "{found}"
    );
    let found = error("kind = \"parquet\"\npath = \"p\"\ntemplate = \"{content}{nope}\"\n");
    assert!(found.contains("row 1: no field `nope`"), "{found}");
    let found = error("kind = \"parquet\"\npath = \"p\"\ntemplate = \"{max_stars_repo_licenses}\"\n");
    assert!(found.contains("expected a string, found an array"), "{found}");
}

#[test]
fn damaged_files_are_errors_or_counted_never_panics() {
    let whole = fixture("large_string");
    for length in [0, 3, 4, 12, whole.len() / 3, whole.len() / 2, whole.len() - 9, whole.len() - 1] {
        let dir = folder(&[("p/a.parquet", &whole[..length])]);
        let error = read(STACK, dir.path()).unwrap_err();
        assert!(matches!(error, Error::Parquet { .. }), "{length}: {error}");
    }
    // One byte in turn is another: an error, another text or the same, but an end.
    for at in (0..whole.len()).step_by(17) {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x5a;
        let dir = folder(&[("p/a.parquet", &bytes)]);
        _ = read(STACK, dir.path());
    }
    let dir = folder(&[("p/a.parquet", &whole), ("p/b.parquet", &whole[..whole.len() / 2])]);
    let toml = "on-error = \"skip\"\n[split]\nvalidation = 0.0\n[[sources]]\nname = \"s\"\nsource = { kind = \"parquet\", path = \"p\" }\n";
    let report = run(toml, dir.path()).unwrap().report;
    assert_eq!(report.totals(), (5, 4, 0, 1));
    assert_eq!(report.sources[0].documents.failed["damaged-file"], 1);
    let rule = report.sources[0].rules.iter().find(|rule| rule.rule == "damaged-file").unwrap();
    assert!(rule.failed && rule.examples[0].id.ends_with("b.parquet"));
}
