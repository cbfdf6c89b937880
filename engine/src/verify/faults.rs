//! The tests of the tests: the suite passes the reference against itself, and flags every fault planted in it. Each op's faults
//! stand in a file of its name, beside the reference that makes them.
use super::*;
use crate::backend::*;
use std::sync::Arc;

mod adamw;
mod attention;
mod elementwise;
mod log_probs;
mod matmul;
mod memory;
mod norms;
mod rope;
mod rows;
mod sample;
mod sums;

/// One mistake, of the kinds that kernels really have, by the trait of the backend that it is planted in.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    Memory(memory::Mistake),
    Elementwise(elementwise::Mistake),
    Sums(sums::Mistake),
    Products(matmul::Mistake),
    TableRows(rows::Mistake),
    Norms(norms::Mistake),
    Rotary(rope::Mistake),
    SoftmaxAttention(attention::Mistake),
    LmHead(log_probs::Mistake),
    Sample(sample::Mistake),
    Optimise(adamw::Mistake),
}

type Cases = fn(&mut Suite);

/// A fault with the kernel whose cases have to fail.
type Planted = (Fault, &'static str, Cases);

const PLANTED: &[&[Planted]] = &[
    memory::PLANTED,
    elementwise::PLANTED,
    sums::PLANTED,
    matmul::PLANTED,
    rows::PLANTED,
    norms::PLANTED,
    rope::PLANTED,
    attention::PLANTED,
    log_probs::PLANTED,
    sample::PLANTED,
    adamw::PLANTED,
];

const ALONE: &[&[Fault]] = &[elementwise::ALONE, matmul::ALONE, attention::ALONE];

/// The reference with one fault.
#[derive(Debug)]
struct Faulty(Fault);

impl Backend for Faulty {
    fn name(&self) -> String {
        format!("reference with {:?}", self.0)
    }

    fn is_host(&self) -> bool {
        true
    }
}

fn ones(n: usize) -> Buffer {
    Buffer::from_f32(vec![1.0; n])
}

/// A copy of `x`, changed.
fn changed(x: &Buffer, change: impl FnOnce(&mut Vec<f32>)) -> Result<Buffer> {
    let mut values = x.f32()?.to_vec();
    change(&mut values);
    Ok(Buffer::from_f32(values))
}

/// Another order of summation: the last bit differs.
fn next_float(values: &mut [f32]) {
    values.iter_mut().for_each(|x| *x = f32::from_bits(x.to_bits() ^ 1));
}

#[test]
fn the_reference_passes_against_itself() {
    let device: Device = Arc::new(Reference);
    let reports = verify_backend(&device, Tolerance { absolute: 0.0, relative: f64::MIN_POSITIVE });
    let failed: Vec<String> = reports.iter().filter(|r| !r.passed).map(Report::to_string).collect();
    assert!(failed.is_empty(), "{failed:#?}");
    assert!(reports.len() > 500, "{} cases", reports.len());
}

#[test]
fn the_reference_does_not_depend_on_the_batch() {
    let device: Device = Arc::new(Reference);
    let failed: Vec<String> = verify_invariance(&device).iter().filter(|r| !r.passed).map(Report::to_string).collect();
    assert!(failed.is_empty(), "{failed:#?}");
}

/// Even at the wide tolerance.
#[test]
fn every_planted_fault_is_flagged() {
    for &(fault, kernel, cases) in PLANTED.iter().copied().flatten() {
        let faulty = Faulty(fault);
        let mut suite = Suite::new(&faulty, Tolerance::FLOAT16);
        suite.first_failure_of = Some(kernel);
        cases(&mut suite);
        assert!(suite.reports.iter().any(|r| !r.passed), "{fault:?} was not flagged");
    }
}

#[test]
fn a_result_that_depends_on_the_batch_is_flagged() {
    for &fault in ALONE.iter().copied().flatten() {
        let device: Device = Arc::new(Faulty(fault));
        assert!(verify_invariance(&device).iter().any(|r| !r.passed), "{fault:?} was not flagged");
    }
}

/// A fault in one kernel is not blamed on another, though backwards need what forwards save.
#[test]
fn faults_are_flagged_where_they_are() {
    let scale = Fault::SoftmaxAttention(attention::Mistake::ScoreScale);
    let epsilon = Fault::Norms(norms::Mistake::EpsilonOfNorm);
    for (fault, kernel) in [(scale, "attention_backward"), (epsilon, "rms_norm_backward")] {
        let faulty = Faulty(fault);
        let mut suite = Suite::new(&faulty, Tolerance::FLOAT32);
        suite.first_failure_of = Some(kernel);
        cases(&mut suite);
        assert!(!suite.reports.is_empty() && suite.reports.iter().all(|r| r.passed), "{fault:?} blamed on {kernel}");
    }
}
