//! bench
use llama_pro_checkpoint::*;
use std::path::Path;
fn main() {
    let a: Vec<String> = std::env::args().collect();
    let (mode, src, dst) = (a[1].as_str(), Path::new(&a[2]), Path::new(&a[3]));
    let t = std::time::Instant::now();
    if mode == "make" {
        let n: usize = a[4].parse().unwrap();
        let cfg = ConfigFile::read(src).unwrap();
        let mut w = FolderWriter::new(dst, WriteOptions::default()).unwrap();
        w.config(&cfg).unwrap();
        let ts = (0..n).map(|i| Tensor { name: format!("t{i}"), dtype: Dtype::BF16, shape: vec![4096, 4096],
            source: Source::Lazy(Box::new(move || { let mut h = blake3::Hasher::new(); h.update(&[i as u8]); let mut v = vec![0; 4096*4096*2]; h.finalize_xof().fill(&mut v); v })) }).collect();
        w.tensors(ts, &|_| {}).unwrap();
        w.finish().unwrap();
    } else {
        let c = Checkpoint::open(src).unwrap();
        let mut w = FolderWriter::new(dst, WriteOptions { force: true, ..Default::default() }).unwrap();
        w.config(c.config()).unwrap();
        let ts = c.names().map(|n| { let i = c.info(n).unwrap(); Tensor { name: n.to_owned(), dtype: i.dtype, shape: i.shape.clone(), source: Source::Copy { checkpoint: &c, name: n.to_owned() } } }).collect();
        w.tensors(ts, &|_| {}).unwrap();
        w.finish().unwrap();
    }
    println!("{mode} {:.3}", t.elapsed().as_secs_f64());
    for l in std::fs::read_to_string("/proc/self/status").unwrap().lines() { if l.starts_with("VmHWM") { println!("{l}"); } }
}
