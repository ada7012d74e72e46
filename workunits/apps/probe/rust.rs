//! Rust does what could differ between machines and engines, and says what it saw.
//!
//!     rust PROBE [ARGUMENT]...    prints lines; the probes are in main
use std::collections::{HashMap, HashSet};
use std::fs::{self, File, OpenOptions};
use std::hash::{BuildHasher, Hasher};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::wasi::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use std::{env, process, thread};

fn floats() {
    let values = [0.0, -0.0, 1.0, 0.1, -2.5, 1e308, 5e-324, 123456789.125, 1e21, f64::INFINITY, f64::NEG_INFINITY, f64::NAN];
    for v in values {
        println!("{} {:?} {:e} {:.3} {:016x} {:?}", v, v, v, v, v.to_bits(), v as f32);
        let results = [v.sin(), v.exp(), v.ln(), v.sqrt(), v.powf(1.5), v.atan2(2.0), v.cbrt(), v.tanh(), v.round(), v.rem_euclid(7.0)];
        println!("{:?} {} {} {}", results, v as i32, v as u64, (v as f32).mul_add(3.0, 1e-3));
    }
    println!("{:?} {:?}", "1e-400".parse::<f64>(), "0.1000000000000000055511151231257827".parse::<f32>());
    println!("{:?} {:?}", i32::MAX.checked_add(1), (-7i64).rem_euclid(3));
}

fn arguments() {
    for a in env::args_os() {
        println!("{:?} {:?}", a, a.as_bytes());
    }
    let mut all: Vec<_> = env::vars_os().collect();
    all.sort();
    println!("{:?} {:?}", all, env::current_dir());
}

fn folder(dir: &Path) -> io::Result<()> {
    for e in fs::read_dir(dir)? {
        let e = e?;
        let m = e.metadata()?;
        println!("{:?} {:?} {} {:?}", e.path(), m.file_type(), m.len(), m.modified()?.duration_since(UNIX_EPOCH));
        if m.is_dir() {
            folder(&e.path())?;
        }
    }
    Ok(())
}

fn clocks() {
    let begin = Instant::now();
    for _ in 0..3 {
        println!("{:?} {:?}", SystemTime::now().duration_since(UNIX_EPOCH), begin.elapsed());
        thread::sleep(Duration::from_millis(1500));
    }
}

// The order of a map is that of its keys' hashes, which are seeded.
fn chance() {
    let set: HashSet<u32> = (0..40).collect();
    println!("{:?}", set);
    let map: HashMap<String, usize> = "the quick brown fox jumps over it".split(' ').map(|w| (w.to_string(), w.len())).collect();
    let mut hasher = map.hasher().build_hasher();
    hasher.write_u64(7);
    println!("{:?} {:016x}", map, hasher.finish());
}

fn large(name: &str) -> io::Result<()> {
    let mut f = File::open(name)?;
    let end = f.seek(SeekFrom::End(-10))?;
    let mut text = String::new();
    f.read_to_string(&mut text)?;
    println!("{} {:?}", end, text);
    let mut f = OpenOptions::new().read(true).write(true).create_new(true).open("/scratch/f")?;
    for i in 0..100u64 {
        f.seek(SeekFrom::Start(i * 7919 % 100 * 1000))?;
        write!(f, "{},", i)?;
    }
    f.rewind()?;
    let mut b = Vec::new();
    f.read_to_end(&mut b)?;
    println!("{} {}", b.len(), b.iter().fold(1u32, |s, &c| s.wrapping_mul(31).wrapping_add(c.into())));
    println!("{:?}", f.set_len(1 << 40));
    println!("{:?} {}", fs::rename("/scratch/f", "/out/f"), fs::copy("/scratch/f", "/out/f")?);
    println!("{:?} {:?}", fs::metadata("/out/f")?.len(), File::create("/in/new"));
    Ok(())
}

fn grow() {
    let mut blocks: Vec<Vec<u8>> = Vec::with_capacity(10000);
    loop {
        let mut b = Vec::new();
        if let Err(e) = b.try_reserve_exact(1 << 18) {
            println!("{} blocks: {}", blocks.len(), e);
            return;
        }
        b.resize(1 << 18, 1);
        blocks.push(b);
    }
}

#[allow(unconditional_recursion)]
#[inline(never)]
fn deep(n: u64) -> u64 {
    let here = [n; 32];
    // Neither the frame nor the call can be optimised away.
    let seen = unsafe { std::ptr::read_volatile(&here) };
    deep(seen[5] + 1) + seen[7]
}

fn main() -> io::Result<()> {
    let probe = env::args().nth(1).unwrap_or_default();
    let argument = || env::args().nth(2).unwrap_or_default();
    println!("{}", probe);
    match probe.as_str() {
        "floats" => floats(),
        "arguments" => arguments(),
        "folder" => folder(Path::new("/"))?,
        "clocks" => clocks(),
        "chance" => chance(),
        "large" => large(&argument())?,
        "grow" => grow(),
        "exit" => process::exit(argument().parse().unwrap()),
        "error" => return Err(io::Error::new(io::ErrorKind::Other, "it failed")),
        "panic" => panic!("it cannot be {}", [1, 2, 3][argument().len() + 3]),
        "thread" => println!("{:?}", thread::Builder::new().spawn(|| ()).map(|_| ())),
        "deep" => println!("{}", deep(1)),
        _ => {}
    }
    Ok(())
}
