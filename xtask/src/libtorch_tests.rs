//! The order of the search, with folders that only look like libtorch.

use std::fs;

use super::*;
use crate::host::tests::script;
use crate::layout::library;
use crate::layout::tests::fake;

const GOOD: (u32, u32, u32) = (2, 11, 0);

/// A python3 that answers every question with these two lines.
fn python(folder: &Path, version: &str, torch: &Path) -> PathBuf {
    let file = folder.join("python3");
    script(&file, &format!("#!/bin/sh\necho {version}\necho '{}'\n", torch.display()));
    file
}

fn links(_: &Path) -> Result<(), String> {
    Ok(())
}

fn root(found: Found) -> PathBuf {
    match found {
        Found::Here(libtorch) => libtorch.root,
        Found::Missing(notes) => panic!("nothing found: {notes:?}"),
    }
}

#[test]
fn variable_then_python_then_cache() {
    let folder = tempfile::tempdir().unwrap();
    let base = folder.path().canonicalize().unwrap();
    let (variable, torch, cache) = (base.join("variable"), base.join("torch"), base.join("cache"));
    for root in [&variable, &torch, &cache.join(pins::CPU)] {
        fake(root, GOOD);
    }
    let mut host = Host {
        // A spelling that is not canonical: the answer must be.
        libtorch: Some(base.join("torch/../variable/")),
        python: Some(python(&base, "2.11.0+cpu", &torch)),
        cache: Some(cache.clone()),
        ..Host::default()
    };
    let find = |host: &Host| find(host, Want::default(), &links).unwrap();
    assert_eq!(root(find(&host)), variable);
    host.libtorch = None;
    assert_eq!(root(find(&host)), torch);
    host.python = None;
    assert_eq!(root(find(&host)), cache.join(pins::CPU));
    // Put there by hand: it has a manifest from now on, and damage is seen.
    assert!(cache.join(pins::CPU).join(manifest::NAME).exists());
    fs::write(cache.join(pins::CPU).join("lib").join(library("c10")), "").unwrap();
    let Found::Missing(notes) = find(&host) else { panic!("a damaged libtorch was used") };
    assert!(
        notes[0].contains("the libtorch in the cache is damaged") && notes[0].contains("c10"),
        "{notes:?}"
    );
    host.cache = None;
    assert_eq!(find(&host), Found::Missing(Vec::new()));
}

#[test]
fn the_cuda_one_is_preferred_once_it_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let cache = folder.path().canonicalize().unwrap();
    fake(&cache.join(pins::CPU), GOOD);
    let host = Host { cache: Some(cache.clone()), ..Host::default() };
    let cuda = Want { cuda: true };
    assert_eq!(find(&host, cuda, &links).unwrap(), Found::Missing(Vec::new()));
    fake(&cache.join(pins::CUDA).join("torch"), GOOD);
    for want in [cuda, Want::default()] {
        assert_eq!(root(find(&host, want, &links).unwrap()), cache.join(pins::CUDA).join("torch"));
    }
}

#[test]
fn a_python_torch_must_fit_and_link() {
    let folder = tempfile::tempdir().unwrap();
    let torch = folder.path().join("torch");
    fake(&torch, GOOD);
    let note = |version: &str, want: Want, links: &dyn Fn(&Path) -> Result<(), String>| {
        let host = Host { python: Some(python(folder.path(), version, &torch)), ..Host::default() };
        match find(&host, want, links).unwrap() {
            Found::Here(libtorch) => panic!("{libtorch:?}"),
            Found::Missing(notes) => notes.join("\n"),
        }
    };
    assert!(note("2.9.1+cu128", Want::default(), &links).contains("it is 2.9.1+cu128, and tch needs 2.11.0"));
    assert!(note("2.11.0", Want { cuda: true }, &links).contains("without CUDA"));
    let refuses = |_: &Path| Err("does not link: libnccl".to_owned());
    assert!(note("2.11.0+cu130", Want::default(), &refuses).contains("is not used: does not link: libnccl"));
}

#[test]
fn a_wrong_variable_is_the_users_mistake() {
    let folder = tempfile::tempdir().unwrap();
    let host = Host { libtorch: Some(folder.path().to_path_buf()), ..Host::default() };
    let error = find(&host, Want::default(), &links).unwrap_err();
    assert_eq!(error.downcast_ref::<Exit>().map(Exit::code), Some(2));
    assert!(error.to_string().starts_with("LIBTORCH: "));
    fake(folder.path(), (2, 10, 0));
    assert!(find(&host, Want::default(), &links).unwrap_err().to_string().contains("2.10.0"));
    fake(folder.path(), GOOD);
    let error = find(&host, Want { cuda: true }, &links).unwrap_err();
    assert!(error.to_string().contains("without CUDA"));
}

#[test]
fn a_folder_that_someone_put_there_is_never_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().join(pins::CPU);
    fs::create_dir(&home).unwrap();
    fs::write(home.join("precious"), "").unwrap();
    let pins = pins("linux", "x86_64", false).unwrap();
    let host = Host { cache: Some(folder.path().to_path_buf()), ..Host::default() };
    let error = fill(&host, folder.path(), &pins, &mut Progress::stderr()).unwrap_err();
    assert_eq!(error.downcast_ref::<Exit>().map(Exit::code), Some(2));
    assert!(error.to_string().contains("remove ") && home.join("precious").exists());
}

#[test]
fn the_ways_out_can_be_followed() {
    let pins = pins("linux", "x86_64", false).unwrap();
    let text = ways_out("no network", Some(Path::new("/c")), Some(&pins));
    assert!(text.starts_with("libtorch 2.11.0 is not here and could not be fetched: no network\n"));
    for part in [
        "export LIBTORCH=",
        "python3 -m pip install torch==2.11.0",
        "--python-version 3.12 --implementation cp --platform manylinux_2_28_x86_64",
        "--dest wheels torch==2.11.0 nvidia-cuda-runtime==13.0.96 nvidia-cuda-cupti==13.0.85\n",
        "/c/libtorch-2.11.0-cpu.partial/wheels/",
    ] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
    assert!(ways_out("odd system", None, None).contains("build libtorch"));
}
