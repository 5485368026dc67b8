//! A sink that prints CodeBuild's own log lines.

use super::EventSink;
use runner_core::event::Event;
use runner_folder::events::{CodeBuild, OutputReader};
use std::io::{self, Write};

impl<W: Write + Send> EventSink for CodeBuild<W> {
    fn event(&mut self, event: &Event, output: &mut OutputReader) -> io::Result<()> {
        CodeBuild::event(self, event, output)
    }

    fn caught_up(&mut self) -> io::Result<()> {
        self.flushed().map(drop)
    }
}
