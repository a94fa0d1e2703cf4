//! Diff dumps that went through other programs and file systems: an import gives the guest's
//! memory or is refused, with the switches that take the dump.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;

use coldframe_testkit::child;
use coldframe_testkit::require::skipped;
use coldframe_testkit::rng::Rng;

use crate::support::{Home, Outcome, coldframe, command, memory_of};

const PAGE: usize = 4096;
const RAM: usize = 6 << 20;

/// How a dump is copied: a script of sh(1) whose `$1` and `$2` are the files.
struct Copier {
    name: &'static str,
    program: &'static str,
    script: &'static str,
    /// Whether it makes holes of zeros: a page that became zero is lost, and nothing tells.
    digs: bool,
}

const COPIERS: [Copier; 10] = [
    copier("cp auto", "cp", "cp --sparse=auto $1 $2", true),
    copier("cp always", "cp", "cp --sparse=always $1 $2", true),
    copier("cp never", "cp", "cp --sparse=never $1 $2", false),
    copier("cat", "cat", "cat $1 >$2", false),
    copier(
        "tar -S",
        "tar",
        "tar -C / -cSf $2.tar ${1#/} && mkdir $2.d && tar -C $2.d -xSf $2.tar && mv $2.d/$1 $2 \
         && rm -r $2.d $2.tar",
        false,
    ),
    copier("rsync -S", "rsync", "rsync -S $1 $2", true),
    copier(
        "qemu-img",
        "qemu-img",
        "qemu-img convert -f raw -O raw $1 $2",
        true,
    ),
    copier("dd 4k", "dd", "dd if=$1 of=$2 bs=4k conv=sparse", true),
    copier("dd 64k", "dd", "dd if=$1 of=$2 bs=64k conv=sparse", true),
    copier("dd 1M", "dd", "dd if=$1 of=$2 bs=1M conv=sparse", true),
];

const fn copier(
    name: &'static str,
    program: &'static str,
    script: &'static str,
    digs: bool,
) -> Copier {
    Copier {
        name,
        program,
        script,
        digs,
    }
}

/// A dump with these runs of pages: first page, count, byte.
fn dump(path: &Path, runs: &[(usize, usize, u8)]) {
    let file = File::create(path).unwrap();
    file.set_len(RAM as u64).unwrap();
    for (page, count, byte) in runs {
        file.write_all_at(&vec![*byte; count * PAGE], (page * PAGE) as u64)
            .unwrap();
    }
    file.sync_all().unwrap();
}

/// A full snapshot, and its memory.
fn base(home: &Home) -> Vec<u8> {
    let bytes = Rng::new(3).bytes(RAM);
    fs::write(home.at("guest.mem"), &bytes).unwrap();
    coldframe(&[
        &"import",
        &"raw",
        &home.at("guest.mem"),
        &"-o",
        &home.at("full"),
    ])
    .done();
    bytes
}

/// Refused with all ways out, or done.
#[track_caller]
fn is_done(import: &Outcome, what: &str) -> bool {
    if import.code != 0 {
        let ways = [
            "cannot tell what changed",
            "--assume-dense",
            "--zeros-are-clean",
        ];
        import.fails(1, &ways);
        eprintln!("{what}: refused");
    }
    import.code == 0
}

#[test]
fn a_copied_dump_gives_the_memory_of_its_guest_or_is_refused() {
    let contents: [&[(usize, usize, u8)]; 4] = [
        &[(3, 1, 1), (300, 40, 2), (1535, 1, 3)],
        &[(0, 100, 1), (104, 1, 0), (700, 2, 4)],
        &[(16, 64, 5), (30, 10, 0), (1000, 1, 0)],
        &[],
    ];
    let home = Home::new();
    let bytes = base(&home);
    for (index, runs) in contents.iter().enumerate() {
        let source = home.at(&format!("source-{index}"));
        dump(&source, runs);
        for copier in COPIERS {
            let what = format!("{} of {index}", copier.name);
            let copied = home.at(&format!("copy-{index}"));
            let script = format!("cd / && {}", copier.script);
            let mut copy = child::command("sh");
            copy.args(["-c", &script, "sh"]).arg(&source).arg(&copied);
            if !copy.output().is_ok_and(|copy| copy.status.success()) {
                skipped(copier.program, "it is not here, or has no such option");
                continue;
            }
            let out = home.at("out");
            let import = coldframe(&[
                &"import",
                &"raw",
                &copied,
                &"--parent",
                &home.at("full"),
                &"-o",
                &out,
            ]);
            if is_done(&import, &what) {
                let mut truth = bytes.clone();
                for (page, count, byte) in *runs {
                    let range = page * PAGE..(page + count) * PAGE;
                    if !(copier.digs && *byte == 0) {
                        truth[range].fill(*byte);
                    } else {
                        truth[range.clone()].copy_from_slice(&bytes[range]);
                    }
                }
                assert!(memory_of(&out) == truth, "{what}");
                fs::remove_dir_all(&out).unwrap();
            }
            fs::remove_file(&copied).unwrap();
        }
    }
}

/// Huge pages first, and then none; `$1` is the command, with the dump and what follows it.
const HUGE: &str = "mount -t tmpfs -o size=64m,huge=always tmpfs \"$0\" && cd \"$0\" && \
    truncate -s 6M dump && one() { \
        printf x | dd of=dump bs=4k seek=\"$1\" conv=notrunc 2>/dev/null; } && \
    one 3 && mount -o remount,huge=never \"$0\" && one 1025 && one 1100 && exec \"$@\"";

#[test]
fn a_dump_with_huge_pages_in_one_place_is_not_believed() {
    let home = Home::new();
    let mut truth = base(&home);
    let out = home.at("out");
    let point = home.at("point");
    fs::create_dir(&point).unwrap();
    let Some(mut huge) = child::mounting(HUGE) else {
        return;
    };
    let import = command(&[
        &"import",
        &"raw",
        &"dump",
        &"--parent",
        &home.at("full"),
        &"-o",
        &out,
    ]);
    huge.arg(&point)
        .arg(import.get_program())
        .args(import.get_args());
    let import = Outcome::from(huge.output().unwrap());
    if import.stderr.contains("mount") {
        skipped("tmpfs", import.stderr.trim());
        return;
    }
    if is_done(&import, "huge") {
        for page in [3, 1025, 1100] {
            truth[page * PAGE..][..PAGE].fill(0);
            truth[page * PAGE] = b'x';
        }
        assert!(memory_of(&out) == truth);
    }
}

/// File systems that allocate by other units than pages, or show no hole at once: the program that
/// makes one in a file, and its arguments.
const MAKERS: [&[&str]; 6] = [
    &["mkfs.xfs", "-q"],
    &["mkfs.xfs", "-q", "-b", "size=64k"],
    &["mkfs.xfs", "-q", "-d", "extszinherit=16"],
    &["mkfs.btrfs", "-q"],
    &["mkfs.ext4", "-q", "-b", "4096"],
    &[
        "mkfs.ext4",
        "-q",
        "-b",
        "4096",
        "-O",
        "bigalloc",
        "-C",
        "65536",
    ],
];

/// A dump on such a file system, written page by page, one of them zero; `$0` is the mount point,
/// `$1` makes the file system, and the command follows.
const ON_ANOTHER: &str = "img=\"$0.img\"; truncate -s 400M \"$img\"; \
    $1 \"$img\" >&2 && mount -o loop \"$img\" \"$0\" || exit 77; \
    shift; cd \"$0\"; truncate -s 6M dump; \
    one() { dd of=dump bs=4k count=1 seek=\"$1\" conv=notrunc 2>/dev/null; }; \
    for page in 3 17 1025; do printf x | one $page; done; one 40 </dev/zero; \
    exec \"$@\"";

#[test]
fn a_dump_on_any_file_system_gives_the_memory_of_its_guest_or_is_refused() {
    let home = Home::new();
    let mut truth = base(&home);
    for page in [3, 17, 40, 1025] {
        truth[page * PAGE..][..PAGE].fill(0);
        truth[page * PAGE] = if page == 40 { 0 } else { b'x' };
    }
    for (index, maker) in MAKERS.iter().enumerate() {
        let (out, point) = (home.at("out"), home.at(&format!("point-{index}")));
        fs::create_dir(&point).unwrap();
        let Some(mut mounted) = child::mounting(ON_ANOTHER) else {
            return;
        };
        let full = home.at("full");
        let import = command(&[&"import", &"raw", &"dump", &"--parent", &full, &"-o", &out]);
        mounted.arg(&point).arg(maker.join(" "));
        mounted.arg(import.get_program()).args(import.get_args());
        let import = Outcome::from(mounted.output().unwrap());
        let what = maker.join(" ");
        if import.code == 77 {
            skipped(
                &what,
                import.stderr.lines().last().unwrap_or("it says nothing"),
            );
        } else if is_done(&import, &what) {
            eprintln!("{what}: taken");
            assert!(memory_of(&out) == truth, "{what}");
            fs::remove_dir_all(&out).unwrap();
        }
        fs::remove_file(home.at(&format!("point-{index}.img"))).unwrap();
    }
}

#[test]
fn what_a_dump_says_may_be_told_by_the_caller() {
    let home = Home::new();
    let bytes = base(&home);
    let full = home.at("full");
    let import = |dump: &Path, out: &str, more: &str| {
        let mut import = command(&[&"import", &"raw", &dump, &"--parent", &full]);
        import.arg("-o").arg(home.at(out)).arg(more);
        Outcome::from(import.output().unwrap())
    };
    // A page of zeros in a long run, from the VMM itself.
    let exact = home.at("exact");
    dump(&exact, &[(16, 64, 5), (30, 2, 0), (100, 1, 6)]);
    import(&exact, "no", "--json").fails(1, &["0x1e000", "--assume-dense", "--zeros-are-clean"]);
    let mut truth = bytes.clone();
    truth[16 * PAGE..80 * PAGE].fill(5);
    truth[100 * PAGE..101 * PAGE].fill(6);
    let mut zero = truth.clone();
    zero[30 * PAGE..32 * PAGE].fill(0);
    for (index, switch) in ["--assume-dense", "--trust-holes"].iter().enumerate() {
        let out = format!("exact-{index}");
        import(&exact, &out, switch).done();
        assert!(memory_of(&home.at(&out)) == zero);
    }
    // A copy without holes of a dump in which nothing became zero.
    let dense = home.at("dense");
    let mut filled = vec![0; RAM];
    filled[16 * PAGE..80 * PAGE].fill(5);
    filled[100 * PAGE..101 * PAGE].fill(6);
    fs::write(&dense, &filled).unwrap();
    import(&dense, "no", "--json").fails(1, &["no hole", "--assume-dense", "--zeros-are-clean"]);
    import(&dense, "dense-out", "--zeros-are-clean").done();
    assert!(memory_of(&home.at("dense-out")) == truth);
    // One or the other, and only of a diff.
    let both = coldframe(&[
        &"import",
        &"raw",
        &dense,
        &"--parent",
        &full,
        &"-o",
        &home.at("no"),
        &"--assume-dense",
        &"--zeros-are-clean",
    ]);
    assert_eq!(both.code, 2, "{both:?}");
    let alone = coldframe(&[
        &"import",
        &"raw",
        &dense,
        &"-o",
        &home.at("no"),
        &"--zeros-are-clean",
    ]);
    assert_eq!(alone.code, 2, "{alone:?}");
}
