//! Random operations on a channel and on a deliberately naive model of it, which keeps one item
//! for each message. Everything observable is compared after every step.

#![expect(clippy::unwrap_used, reason = "a model that is out of step is a failure of the test")]

mod model;
mod operations;
mod run;

use proptest::prelude::*;

use self::{
    operations::{Operation, Setup, operations, setup},
    run::Run,
};

fn run(setup: &Setup, operations: &[Operation]) -> Run {
    let mut run = Run::new(setup);
    for operation in operations {
        run.apply(operation);
        run.check();
    }
    run.settle();
    run.check();
    run.check_journal();
    run
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 400,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn a_channel_behaves_as_its_model(setup in setup(), operations in operations(1..120)) {
        run(&setup, &operations);
    }

    #[test]
    fn the_same_operations_have_the_same_outcome(setup in setup(), operations in operations(1..60)) {
        prop_assert_eq!(run(&setup, &operations).trace, run(&setup, &operations).trace);
    }
}
