//! The example of an adapter for another hypervisor, run.

#[path = "../../examples/third_hypervisor.rs"]
#[allow(dead_code, missing_docs, reason = "an example, not an interface")]
mod third_hypervisor;

#[test]
#[cfg_attr(miri, ignore = "maps files")]
fn a_hypervisor_that_is_in_no_list_freezes_and_thaws() {
    third_hypervisor::main().unwrap();
}
