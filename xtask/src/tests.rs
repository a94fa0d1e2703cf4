//! The checks of the whole tree, and of the checkers themselves.
#![allow(clippy::unwrap_used)]

use crate::aarch64::guest::{Step, outcomes};
use crate::exec::Done;
use crate::findings::Findings;
use crate::source::Source;
use crate::tree::Tree;
use crate::{crash, hosts, layers, layout, markdown, spec, tidy, toolchain, unsafe_code, verdict};

#[track_caller]
fn holds(check: fn(&Tree) -> anyhow::Result<Findings>) {
    let findings = check(&Tree::open().unwrap()).unwrap();
    assert!(findings.is_clean(), "\n{findings}");
}

#[test]
fn the_tree_is_tidy() {
    holds(tidy::check);
}

#[test]
fn the_layers_point_downwards() {
    holds(layers::check);
}

#[test]
fn the_specs_equal_the_code() {
    holds(spec::check);
}

#[test]
fn no_offset_moved_unseen() {
    holds(layout::check);
}

#[test]
fn no_unsafe_code_came_unseen() {
    holds(unsafe_code::check);
}

#[test]
fn each_crate_states_a_rust_version() {
    holds(toolchain::check);
}

#[test]
fn comments_and_strings_are_not_code() {
    let text = "//! dbg!(1)\nfn f() { let _ = \"x.unwrap()\"; /* todo!() */ }\n";
    let source = Source::parse(text).unwrap();
    assert_eq!(source.find(". unwrap (").count(), 0);
    assert_eq!(
        source.find("dbg !").count() + source.find("todo !").count(),
        0
    );
}

#[test]
fn what_is_banned_can_be_found() {
    for pattern in tidy::banned() {
        // Brackets are tokens only in pairs.
        let close = match pattern.chars().rfind(|c| "([".contains(*c)) {
            Some('(') => ")",
            Some('[') => "]",
            _ => "",
        };
        let source = Source::parse(&format!("{pattern}{close}")).unwrap();
        assert_eq!(source.find(pattern).count(), 1, "{pattern}");
    }
}

#[test]
fn functions_are_measured_with_their_signature() {
    let text = "fn a(\n  x: [u8; 3],\n) -> u8 {\n  x[0]\n}\ntrait T { fn b(); }\n";
    let functions = Source::parse(text).unwrap().functions();
    assert_eq!(functions.len(), 1);
    assert_eq!((functions[0].line, functions[0].line_count), (1, 5));
}

#[test]
fn tests_inside_macros_are_found() {
    let text = "proptest! { #[test] fn inner(a in 0..3u8) {} }\n#[test]\nfn outer() {}\nfn no() {}";
    let names = Source::parse(text).unwrap().test_names();
    assert_eq!(names, ["inner", "outer"]);
}

#[test]
fn test_modules_are_exempt_and_no_more() {
    let text = "#[cfg(test)] mod t { fn a() { x.unwrap(); } }\nfn b() { y.unwrap(); }";
    let source = Source::parse(text).unwrap();
    let exempt = source.test_only();
    let outside = source
        .find(". unwrap (")
        .filter(|index| !exempt.iter().any(|range| range.contains(index)));
    assert_eq!(outside.count(), 1);
}

#[test]
fn skipped_tests_do_not_count_as_passed() {
    let output = "SKIPPED: kvm: no /dev/kvm\ntest a ... SKIPPED: nbd: no nbdcopy\nok\n\
                  SKIPPED: kvm: no /dev/kvm\n\
                  test result: ok. 5 passed; 0 failed; 0 ignored\n";
    let done = || Done {
        ok: true,
        output: output.to_owned(),
    };
    let free = verdict::of_tests(&done(), &[]);
    assert_eq!((free.passed, free.failed, free.skipped), (2, 0, 3));
    let by_reason = "SKIPPED: kvm: no /dev/kvm (2 tests)\nSKIPPED: nbd: no nbdcopy (1 tests)\n";
    assert_eq!(free.detail, by_reason);
    let required = verdict::of_tests(&done(), &["kvm".to_owned()]);
    assert_eq!(
        (required.passed, required.failed, required.skipped),
        (2, 2, 1)
    );
}

#[test]
fn links_in_code_are_not_links() {
    let text = "See [a](x.md) and `[b](y)`.\n```\n[c](z)\n```\n";
    assert_eq!(markdown::links(text), [(1, "x.md".to_owned())]);
}

#[test]
fn tables_keep_their_lines() {
    let tables = markdown::tables("### Layout: x\n\n| a | b |\n|---|---|\n| 0 | `c` |\n");
    assert_eq!(tables.len(), 1);
    assert_eq!(tables[0].heading, "Layout: x");
    assert_eq!(
        tables[0].rows,
        [(5, vec!["0".to_owned(), "`c`".to_owned()])]
    );
}

#[test]
fn a_violation_and_a_missed_bug_are_no_clean_summary() {
    let sound = "CRASH\ta\tok\t100\t2\t1500\nPLANTED\tb\tfound\t3\t20\n";
    let clean = crash::summarise(sound);
    assert!(clean.is_clean, "{}", clean.text);
    assert!(clean.text.contains("100 states, 0 violations"));
    for bad in [
        "CRASH\tc\tviolation\t0\t0\t9\tseed 1\\nthen\n",
        "PLANTED\td\tmissed\t0\t5\n",
        "nonsense\n",
    ] {
        assert!(
            !crash::summarise(&format!("{sound}{bad}")).is_clean,
            "{bad}"
        );
    }
    assert!(!crash::summarise("").is_clean);
}

#[test]
fn a_step_in_the_virtual_machine_is_good_only_if_it_ended_well() {
    let steps = ["a", "b", "c"].map(|name| Step {
        name,
        command: "./coldframe demo",
    });
    let output = "COLDFRAME-STATUS 0 0\nCOLDFRAME-STATUS 1 1\nCOLDFRAME-STATUS 2 ";
    let good: Vec<bool> = outcomes(output, &steps).map(|(good, _)| good).collect();
    assert_eq!(good, [true, false, false]);
}

#[test]
fn what_a_test_binary_leaves_behind_is_a_failure() {
    let sound = hosts::left("test result: ok. 5 passed; 0 failed\n");
    assert_eq!((sound.passed, sound.failed), (0, 0));
    let left = hosts::left("test result: ok.\nLEFT: /tmp/a\nLEFT: process 7: sleep 9\n");
    assert_eq!(left.failed, 1);
    assert_eq!(left.detail, "LEFT: /tmp/a\nLEFT: process 7: sleep 9\n");
}

#[test]
fn skipped_tests_of_all_hosts_are_added_up_by_reason() {
    let detail = "SKIPPED: kvm: none (2 tests)\nfailures:\nSKIPPED: s3: no moto (1 tests)\n\
                  SKIPPED: kvm: none (3 tests)\n";
    let sum = "SKIPPED: kvm: none (5 tests)\nSKIPPED: s3: no moto (1 tests)\n";
    assert_eq!(hosts::skipped(detail), sum);
}
