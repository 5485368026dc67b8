//! The parser's position in nested collections, as far as its events show: which collections are
//! open, and what each one expects.
//!
//! Updated by `compose`, used by `syntax`.

use serde_yaml::granit_parser::{Event, Span, StructureStyle};

/// Open collections, innermost last.
#[derive(Debug, Default)]
pub(super) struct CollectionStack {
    open: Vec<OpenCollection>,
    /// End of the last node, in bytes.
    pub(super) last_end: usize,
}

#[derive(Debug)]
pub(super) struct OpenCollection {
    pub(super) kind: CollectionKind,
    /// The mapping has a key without a value so far.
    pub(super) awaits_value: bool,
    /// Column of the collection, from 0.
    pub(super) column: usize,
}

impl OpenCollection {
    fn is_flow(&self) -> bool {
        matches!(self.kind, CollectionKind::FlowSequence | CollectionKind::FlowMapping)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CollectionKind {
    BlockSequence,
    BlockMapping,
    FlowSequence,
    FlowMapping,
}

impl CollectionStack {
    pub(super) fn innermost(&self) -> Option<&OpenCollection> {
        self.open.last()
    }

    pub(super) fn is_in_flow(&self) -> bool {
        self.innermost().is_some_and(OpenCollection::is_flow)
    }

    /// Whether the outermost brackets are where the next key of the enclosing map would be.
    pub(super) fn is_flow_a_key(&self) -> bool {
        let Some(first) = self.open.iter().position(OpenCollection::is_flow) else { return false };
        let around = first.checked_sub(1).and_then(|at| self.open.get(at));
        around.is_some_and(|around| {
            around.kind == CollectionKind::BlockMapping && around.column == self.open[first].column
        })
    }

    /// Processes a parser event.
    pub(super) fn saw(&mut self, event: &Event<'_>, span: &Span) {
        match event {
            Event::Scalar(..) | Event::Alias(_) => self.node(span.end.byte_offset()),
            Event::SequenceStart(style, ..) => self.begin(
                span,
                match style {
                    StructureStyle::Block => CollectionKind::BlockSequence,
                    StructureStyle::Flow => CollectionKind::FlowSequence,
                },
            ),
            Event::MappingStart(style, ..) => self.begin(
                span,
                match style {
                    StructureStyle::Block => CollectionKind::BlockMapping,
                    StructureStyle::Flow => CollectionKind::FlowMapping,
                },
            ),
            Event::SequenceEnd | Event::MappingEnd => {
                self.open.pop();
                self.last_end = span.end.byte_offset().unwrap_or(self.last_end);
            }
            _ => {}
        }
    }

    fn begin(&mut self, span: &Span, kind: CollectionKind) {
        self.node(span.end.byte_offset());
        self.open.push(OpenCollection { kind, awaits_value: false, column: span.start.col() });
    }

    fn node(&mut self, end: Option<usize>) {
        self.last_end = end.unwrap_or(self.last_end);
        if let Some(OpenCollection {
            kind: CollectionKind::BlockMapping | CollectionKind::FlowMapping,
            awaits_value,
            ..
        }) = self.open.last_mut()
        {
            *awaits_value = !*awaits_value;
        }
    }
}
