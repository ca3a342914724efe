//! One loaded model and how to talk to it: conversation in, streamed answer out.

use std::io::{self, IsTerminal};
use std::ops::ControlFlow;

use hearth_engine::{
    Answer, Event, FinishReason, Generator, GeneratorOptions, Request, SamplingParams, Speculate,
    Statistics,
};
use hearth_gguf::Gguf;
use hearth_text::{ChatTemplate, Encode};
use serde_json::{Value, json};

use crate::args::{MachineArgs, RunArgs, SamplingArgs, SpeculateArg};
use crate::failure::{Failure, one_line};
use crate::interrupt::Interrupt;
use crate::load::{self, PromptBar};
use crate::model_ref::ModelRef;
use crate::printer::{self, Output, Visible};

/// A model ready to answer, with the settings of its answers.
pub struct Conversation {
    generator: Generator,
    template: Option<ChatTemplate>,
    settings: Request,
    interrupt: Interrupt,
    shows_stats: bool,
}

impl Conversation {
    /// Loads the model that `hearth run` was asked for.
    pub fn load(args: RunArgs, is_verbose: bool) -> Result<Conversation, Failure> {
        let interrupt = Interrupt::install()?;
        let model = ModelRef::parse(&args.model)?;
        let gguf = model.open()?;
        let template = if args.raw {
            None
        } else {
            chat_template(&gguf, &args)?
        };
        let is_without_template = template.is_none() && !args.raw;
        let compute = &args.machine.compute;
        let options = GeneratorOptions {
            n_ctx: load::context(
                &gguf,
                args.machine.context.map(|n| n.get()),
                load::kv_type(compute.kv),
            )?,
            n_positions: None,
            kv_type: load::kv_type(compute.kv),
            chunk: compute.chunk.map_or(load::DEFAULT_CHUNK, |n| n.get()),
            ..GeneratorOptions::default()
        };
        let mut generator =
            Generator::load(gguf.clone(), load::kernels(compute.threads)?, options)?;
        add_draft(&mut generator, &args.machine, &interrupt)?;
        let settings = Request {
            max_tokens: args.max_tokens.map(|n| n.get()),
            stop: args.stop,
            sampling: sampling(args.sampling),
            speculate: match args.machine.speculate {
                SpeculateArg::Auto => Speculate::Auto,
                SpeculateArg::Off => Speculate::Off,
            },
            ..Request::new(Vec::new())
        };
        if is_without_template {
            printer::note(
                "note: this model has no chat template; it continues the prompt as plain text",
            );
        }
        for notice in generator.tokenizer().notices() {
            printer::note(format!("note: {}", one_line(notice)));
        }
        settings.check_settings(generator.model().n_vocab())?;
        note_long_context(&generator);
        load::warm_up(&gguf, &interrupt)?;
        let conversation = Conversation {
            generator,
            template,
            settings,
            interrupt,
            shows_stats: args.stats,
        };
        if is_verbose {
            conversation.describe(&model);
        }
        Ok(conversation)
    }

    /// Whether the model has turns; without them it can only continue text.
    pub fn has_template(&self) -> bool {
        self.template.is_some()
    }

    /// Ctrl-C as this conversation sees it.
    pub fn interrupt(&self) -> &Interrupt {
        &self.interrupt
    }

    fn describe(&self, model: &ModelRef) {
        let kernels = self.generator.kernels();
        printer::note(format!(
            "{model}: {} threads, level {}, context of {} tokens",
            kernels.n_threads(),
            kernels.level(),
            self.generator.model().n_ctx()
        ));
    }

    /// The tokens of a plain text.
    pub fn raw_tokens(&self, text: &str) -> Result<Vec<u32>, Failure> {
        self.check_length(text)?;
        Ok(self.generator.encode(text))
    }

    /// Refuses a text that cannot fit, whatever its tokens are, without the time and memory of finding them.
    fn check_length(&self, text: &str) -> Result<(), Failure> {
        let tokenizer = self.generator.tokenizer();
        let n_ctx = self.generator.model().n_ctx();
        // A token stands for at most four bytes (a character it does not know) or for its piece.
        if text.len() <= 4 * n_ctx {
            return Ok(());
        }
        let pieces = (0..tokenizer.n_vocab() as u32).filter_map(|id| tokenizer.piece(id));
        let longest = pieces.map(<[u8]>::len).max().unwrap_or(0).max(4);
        let n_tokens = text.len() / longest;
        if n_tokens <= n_ctx {
            return Ok(());
        }
        let n_bytes = text.len();
        Err(Failure::input(format!(
            "the prompt of {n_bytes} bytes is at least {n_tokens} tokens, and the context holds {n_ctx}"
        ))
        .hint("shorten the prompt or give a larger --context; nothing is ever cut silently"))
    }

    /// The tokens of a conversation whose next turn is the model's.
    pub fn chat_tokens(&self, messages: &[Value]) -> Result<Vec<u32>, Failure> {
        let template = self
            .template
            .as_ref()
            .expect("the caller asked has_template");
        let tokenizer = self.generator.tokenizer();
        let special = |id: Option<u32>| {
            let bytes = id.and_then(|id| tokenizer.piece(id)).unwrap_or_default();
            String::from_utf8_lossy(bytes).into_owned()
        };
        let context = json!({
            "messages": messages,
            "tools": null,
            "documents": null,
            "add_generation_prompt": true,
            "bos_token": special(tokenizer.bos()),
            "eos_token": special(tokenizer.eos()),
        });
        let text = template.render(&context, None)?;
        if text.is_empty() {
            return Err(Failure::input(
                "the model's chat template made no text of this conversation",
            )
            .hint("--raw goes without the template"));
        }
        self.check_length(&text)?;
        // The template writes the special tokens itself, the one at the start included.
        Ok(tokenizer.encode(
            &text,
            Encode {
                add_special: false,
                parse_special: true,
            },
        ))
    }

    /// Writes the answer to standard output as it comes.
    pub fn answer(&mut self, prompt: Vec<u32>, output: &mut Output) -> Result<Answer, Failure> {
        let request = Request {
            prompt,
            ..self.settings.clone()
        };
        let mut bar = PromptBar::new();
        let visible = Visible::new(io::stdout().is_terminal());
        let mut failure = None;
        let interrupt = self.interrupt.clone();
        let result = self.generator.generate(&request, &mut |event| {
            match event {
                Event::Prefill { n_done, n_total } => bar.update(n_done, n_total),
                Event::Text(text) => {
                    let written = output
                        .bytes(visible.filter(text).as_bytes())
                        .and_then(|()| output.flush());
                    failure = written.err();
                }
                _ => {}
            }
            if failure.is_some() || interrupt.is_set() {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        });
        bar.finish();
        if let Some(failure) = failure {
            return Err(failure);
        }
        let answer = result?;
        let is_cut_short = answer.finish == FinishReason::Cancelled && answer.text.is_empty();
        if !answer.text.ends_with('\n') && !is_cut_short {
            output.line("")?;
        }
        output.flush()?;
        self.remark(&request, &answer);
        Ok(answer)
    }

    /// What a reader of the answer must know besides it.
    fn remark(&self, request: &Request, answer: &Answer) {
        let n_ctx = self.generator.model().n_ctx();
        let is_full = request.prompt.len() + answer.tokens.len() >= n_ctx;
        if answer.finish == FinishReason::Length && is_full {
            printer::note(format!(
                "note: the context of {n_ctx} tokens is full, so the answer ends here"
            ));
        }
        if self.shows_stats {
            self.print_stats(answer);
        }
    }

    fn print_stats(&self, answer: &Answer) {
        let stats = &answer.statistics;
        let kernels = self.generator.kernels();
        let reused = if stats.n_reused > 0 {
            format!(" ({} of them known)", stats.n_reused)
        } else {
            String::new()
        };
        printer::note(format!(
            "prompt   {} tokens{reused} in {:.3} s, {:.1} tokens/s",
            stats.n_prompt,
            stats.prefill.as_secs_f64(),
            stats.prefill_tok_s()
        ));
        // The first token comes with the prompt; one token alone has no speed.
        let speed = if stats.n_drawn > 1 {
            format!(", {:.1} tokens/s", stats.decode_tok_s())
        } else {
            String::new()
        };
        printer::note(format!(
            "answer   {} tokens in {:.3} s{speed}; ended by {}",
            stats.n_drawn,
            stats.decode.as_secs_f64(),
            answer.finish.name()
        ));
        if let Some(guesses) = guesses(stats) {
            printer::note(format!("guesses  {guesses}"));
        }
        printer::note(format!(
            "machine  {} threads, level {}",
            kernels.n_threads(),
            kernels.level()
        ));
        printer::note(format!("seed     {}", stats.seed));
    }
}

/// How the tokens guessed ahead fared; nothing when none were.
fn guesses(stats: &Statistics) -> Option<String> {
    let kinds = [(stats.lookup, "the text"), (stats.draft, "the draft model")];
    let kinds: Vec<String> = kinds
        .iter()
        .filter(|(guesses, _)| guesses.n_made > 0)
        .map(|(guesses, whose)| {
            format!(
                "{} of {} from {whose} right",
                guesses.n_right, guesses.n_made
            )
        })
        .collect();
    let steps = format!("; {} steps", stats.n_steps);
    (!kinds.is_empty()).then(|| kinds.join(", ") + &steps)
}

/// The smaller model that guesses, when one is asked for.
fn add_draft(
    generator: &mut Generator,
    args: &MachineArgs,
    interrupt: &Interrupt,
) -> Result<(), Failure> {
    let Some(draft) = &args.draft else {
        return Ok(());
    };
    if args.speculate == SpeculateArg::Off {
        return Err(
            Failure::input("--draft has nothing to do with --speculate off")
                .hint("leave one of them out"),
        );
    }
    let gguf = ModelRef::parse(draft)?.open()?;
    generator.add_draft(gguf.clone())?;
    load::warm_up(&gguf, interrupt)
}

/// Beyond the length it was trained for a model may write nonsense; whoever asks for it is told.
fn note_long_context(generator: &Generator) {
    let model = generator.model();
    let n_ctx_train = model.hparams().n_ctx_train;
    if model.n_ctx() > n_ctx_train {
        printer::note(format!(
            "note: --context {} is more than the {n_ctx_train} tokens this model was trained for; answers far into it may be poor",
            model.n_ctx()
        ));
    }
}

/// The model's own template. A model without one completes plain text, and says so.
fn chat_template(gguf: &Gguf, args: &RunArgs) -> Result<Option<ChatTemplate>, Failure> {
    let template = ChatTemplate::from_metadata(gguf.metadata())?;
    if template.is_none() && args.system.is_some() {
        return Err(
            Failure::input("this model has no chat template, so it cannot take --system")
                .hint("leave --system out and write the instructions into the prompt"),
        );
    }
    Ok(template)
}

fn sampling(args: SamplingArgs) -> SamplingParams {
    SamplingParams {
        temperature: args.temperature,
        top_k: args.top_k as usize,
        top_p: args.top_p,
        min_p: args.min_p,
        typical: args.typical,
        repeat_penalty: args.repeat_penalty,
        frequency_penalty: args.frequency_penalty,
        presence_penalty: args.presence_penalty,
        logit_bias: args.logit_bias,
        seed: args.seed,
        ..SamplingParams::default()
    }
}
