//! `hearth completions` and `hearth man`: the definitions of the flags in other shapes.

use clap::CommandFactory;

use crate::args::{Cli, CompletionsArgs};
use crate::failure::Failure;
use crate::printer::Output;

/// Prints the completion script for a shell.
pub fn completions(args: &CompletionsArgs) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "hearth", &mut script);
    print(&script)
}

/// Prints one page for the program and all its commands.
pub fn man() -> Result<(), Failure> {
    let mut command = Cli::command();
    // Gives every command its full name, `hearth run`, and resolves the flags they share.
    command.build();
    let mut page = Vec::new();
    clap_mangen::Man::new(command.clone()).render(&mut page)?;
    for sub in command
        .get_subcommands()
        .filter(|sub| sub.get_name() != "help")
    {
        let man = clap_mangen::Man::new(sub.clone());
        page.extend(format!(".SH HEARTH {}\n", sub.get_name().to_uppercase()).bytes());
        man.render_synopsis_section(&mut page)?;
        man.render_description_section(&mut page)?;
        man.render_options_section(&mut page)?;
        man.render_extra_section(&mut page)?;
    }
    print(&page)
}

fn print(bytes: &[u8]) -> Result<(), Failure> {
    let mut output = Output::new();
    output.bytes(bytes)?;
    output.flush()
}
