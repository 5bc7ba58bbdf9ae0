//! A chain of stateless user functions, fused into one operator; and the union of several streams.

use std::sync::Arc;

use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::dataflow::{Scope, Stream};
use timely::progress::operate::FrontierInterest;

use crate::engine::control::Control;
use crate::engine::parcel::Parcel;
use crate::error::Result;
use crate::time::Time;

/// What is done to each parcel. Guards the user's code itself, since it knows which record it was at.
pub(crate) type Chain = Box<dyn FnMut(Parcel) -> Result<Parcel>>;

/// Builds the operator: each parcel leaves at the time it came in with.
pub(crate) fn stateless<'scope>(
    scope: Scope<'scope, Time>,
    control: &Arc<Control>,
    name: &str,
    mut chain: Chain,
    input: Stream<'scope, Time, Parcel>,
) -> Stream<'scope, Time, Parcel> {
    let mut builder = OperatorBuilder::new(name.to_owned(), scope);
    let mut input = builder.new_input(input, Pipeline);
    builder.set_notify_for(0, FrontierInterest::Never);
    let (mut output, stream) = builder.new_output();
    let control = Arc::clone(control);
    builder.build(move |_capabilities| {
        move |_frontiers| {
            let mut session = output.activate();
            input.for_each(|capability, parcel| {
                if control.has_failed() {
                    return;
                }
                if let Some(mut parcel) = control.check(chain(std::mem::take(parcel))) {
                    session.give(&capability, &mut parcel);
                }
            });
        }
    });
    stream
}
