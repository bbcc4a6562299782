"""The command line: a thin shell over the library."""

import argparse
import difflib
import functools
import json
import os
import sys
import typing
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from . import about, export, files, models, nn, page, prune, report, sparse, speed, study
from .errors import Error, choose
from .train import Recipe

DESCRIPTION = "Retrain pruned networks three ways: fine-tuning, weight rewinding, learning-rate rewinding."
WORKERS = {"gpu": 8, "emulated": 1}
LEARN = ("status", "open", "hint", "check", "solution", "reset")
EXPORTS = {"sparse": "network.npz", "onnx": "network.onnx", "safetensors": "network.safetensors"}


def compare(options) -> None:
    """Run the comparison, print the table, draw the figures, write the page."""
    from tqdm import tqdm

    chosen, origin = settings(options, options.study), options.study or ""
    if origin and chosen != study.read_settings(origin):
        origin = f"{origin} with the options given"
    wanted = study.made(chosen, origin)
    folder = Path(options.out or f"results/{Path(options.study or 'compare').stem}")
    workers = options.workers
    if workers is None:
        workers = WORKERS.get(options.device) or os.cpu_count() or 1
    if options.dry_run:
        print(study.plan(wanted, folder, workers, options.device, only=options.only))
        return
    first = {"shown": False}
    images = functools.cache(lambda: len(wanted.load().train))

    def published(rows) -> None:
        if rows:                                # now, for whoever stops this command has still run it here
            about.note(folder, len(rows), device=options.device, workers=workers, train_images=images())
        mine = [row for row in rows if row.seed == wanted.seed_list[0] and row.protocol == "one_shot"]
        if not first["shown"] and len(mine) >= study.one_shot_runs(wanted) > 0 and len(wanted.seed_list) > 1:
            first["shown"] = True
            tqdm.write(f"\nThe first seed, one-shot:\n{report.table(mine)}\n", file=sys.stdout)

    failure = None
    try:
        rows = study.run(wanted, folder, workers, options.device, on_rows=published, dask=options.dask,
                         only=options.only, retry_failed=options.retry_failed, tracker=options.tracker)
    except study.Incomplete as told:
        rows, failure = told.rows, told
    print(report.table(rows))
    if rows:
        tell_emptied(f"{name} (in {count} runs)" for name, count in study.emptied(folder).items())
        tell_page(page.write(rows, folder, options.measure))
    if failure:
        raise failure


def settings(options, study_file: str | None = None) -> dict[str, Any]:
    """The settings of a study: those of the study file, and over them those given as options."""
    chosen = study.read_settings(study_file) if study_file else {}
    given = {name: value for name, value in vars(options).items() if value is not None}
    chosen |= {name: given[name] for name in ("dataset", "network", "data_dir", "seeds", "noise", *study.AXES)
               if name in given}
    changes = {name.removeprefix("recipe."): value for name, value in given.items() if name.startswith("recipe.")}
    return chosen | ({"recipe": chosen.get("recipe", {}) | changes} if changes else {})


def draw(options) -> None:
    """Print the table, draw the figures and write the page of a folder again, from its results.csv."""
    rows = study.read_results(Path(options.folder) / "results.csv")
    if not rows:
        raise Error(f"{options.folder}/results.csv has no rows yet; let compare finish a run first")
    print(report.table(rows))
    tell_page(page.write(rows, options.folder, options.measure))


def tell_page(path: Path) -> None:
    """Where everything is."""
    print(f"\n{path.with_name('results.csv')}  every run\n{path.with_name('comparison.png')}  the figure\n"
          f"{path}  the page: open it in a browser")


def prune_network(options) -> None:
    """Prune by the paper's algorithm, round by round, and save the network."""
    def told(summary: dict, inside: bool) -> None:
        note = "" if inside else f"   more than {options.max_drop:g} points below the dense network: not kept"
        print(f"{1 / summary['density']:7.2f}x  validation {summary['validation_accuracy']:6.2f} %{note}", flush=True)

    wanted = study.made(settings(options) | {"seeds": [options.seed]})
    _, result = study.prune_to_target(wanted, options.out, density=options.density, max_drop=options.max_drop,
                                      device=options.device, on_round=told)
    print(f"kept {result['density']:.2%} of the prunable weights ({1 / result['density']:.2f}x): test accuracy "
          f"{result['accuracy']:.2f} %, the dense network's {result['dense_accuracy']:.2f} %")
    if options.density is not None and result["density"] > 1.01 * options.density:
        print(f"the target of {options.density:g} was not reached: fewer weights than layers would be left, "
              f"or more accuracy lost than --max-drop allows")
    tell_emptied([name for name, density in result["layer_densities"].items() if density == 0])
    print(f"{Path(options.out) / 'state.npz'}  the network")


def tell_emptied(names: Iterable[str]) -> None:
    """A layer without weights is no mistake, but worth knowing."""
    if names := list(names):
        print(f"left without any weight: {', '.join(names)}")


def export_network(options) -> None:
    """Write the network of a finished run as a small file (sparse), as ONNX or as safetensors."""
    choose("format", options.to, EXPORTS)
    model = export.read_run(options.run)
    out = Path(options.out or Path(options.run) / EXPORTS[options.to])
    origin, vectors = model.origin or {}, nn.pack(model)
    images = np.random.default_rng(0).standard_normal((128, *origin["input_shape"])).astype(np.float32)
    program = sparse.compile(model, images[:1])
    programs: dict[str, Any] = {"dense": sparse.compile(models.build(**origin), images[:1]), "pruned": program}
    note = ""
    if options.to == "sparse":
        size = sparse.save(out, model)
    else:
        content = export.onnx(model, images[:1]) if options.to == "onnx" else export.safetensors(model)
        size = files.write(out, content)
        session = export.run_onnx(content) if options.to == "onnx" else None
        if session is not None:
            programs["by onnxruntime"] = session
            note = f"; onnxruntime agrees to {export.difference(session(images), program(images)):.0e}"
    dense = sum(values.nbytes for values in model.state_dict().values())
    print(f"density {prune.density(vectors.mask, vectors.prunable):.2%}: {size:,} bytes, the dense network "
          f"{dense:,} ({dense / size:.1f}x){note}")
    one, many = (speed.milliseconds(programs, images[:count]) for count in (1, len(images)))
    for name in programs:
        print(f"{name:16}{one[name]:9.3f} ms for one image {many[name]:9.2f} ms for {len(images)}")
    print(out)


def fetch_data(options) -> None:
    """Download a data set."""
    from . import fetch

    print(fetch.fetch(options.name, options.data_dir))


def learn_about(options) -> None:
    """The lessons: your progress, hints, solutions."""
    from .learn import exercise

    def named() -> str:
        if options.name is None:
            raise Error(f"learn {options.action} needs the name of an exercise, such as "
                        f"{next(iter(exercise.exercises))}; minirewind learn lists them")
        return options.name

    exercise.load()
    if options.action == "status" and options.json:
        print(json.dumps(exercise.states(), indent=1))
    elif options.action == "status":
        exercise.status(options.name or "")
    elif options.action == "hint":
        exercise.hint(named())
    elif options.action == "solution":
        exercise.solution(named(), give_up=options.give_up)
    elif options.action == "check":
        exercise.check(named())
    elif options.action == "reset":
        exercise.reset(named())
    elif options.action == "open":
        exercise.open(options.name)


# ---------------------------------------------------------------------------------------------------------- the parser


class Parser(argparse.ArgumentParser):
    """Says what is wrong in a line or two, without the whole usage; takes no option by half its name."""

    verbs: dict[str, "Parser"]

    def __init__(self, **settings):
        super().__init__(**settings, allow_abbrev=False, formatter_class=Help)

    def error(self, message):
        raise Error(_brief(message, self))

    def parse_args(self, arguments=None, namespace=None):
        """The options; one that is not known is told by the verb's own parser, which knows what was meant."""
        options, unknown = self.parse_known_args(arguments, namespace)
        if unknown:
            self.verbs[options.verb].error(f"unknown option {' '.join(unknown)}")
        return options


class Help(argparse.HelpFormatter):
    """The default behind each option that has one."""

    def _get_help_string(self, action):
        if action.default is True:
            return f"{action.help} (true)"                              # as it is typed
        return action.help if action.default in (None, False, argparse.SUPPRESS) else f"{action.help} (%(default)s)"


def yes_or_no(text: str) -> bool:
    """The value of an option that is true or false."""
    if text not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"{text!r}; expected true or false")
    return text == "true"


KINDS = {int: "N", float: "X", str: "NAME", yes_or_no: "true|false"}        # how --help shows what is expected


def parser() -> Parser:
    """All verbs and their options."""
    whole = Parser(prog="minirewind", description=DESCRIPTION)
    verbs = whole.add_subparsers(dest="verb", required=True, metavar="|".join(VERBS))
    whole.verbs = verbs.choices

    def verb(name: str, function) -> Parser:
        return verbs.add_parser(name, description=function.__doc__, help=function.__doc__)

    def option(new: Parser, name: str, kind, help: str, **more) -> None:
        new.add_argument(f"--{name}", type=kind, metavar=KINDS.get(kind, "NAME"), help=help, **more)

    def common(new: Parser) -> None:
        option(new, "dataset", str, "digits, cifar10, cifar100, mnist or fashion_mnist; digits if none is named")
        option(new, "network", str, "resnet20, resnet8-8 (depth-width), vgg16, lenet_300_100, or "
                                    "package.module:function; if none is named, one that suits the data")
        option(new, "data-dir", str, "where the data sets lie (or MINIREWIND_DATA)")
        option(new, "device", str, "cpu, gpu; slow ones to learn from: reference, emulated", default="cpu")
        for name, kind in typing.get_type_hints(Recipe).items():
            option(new, f"recipe.{name}", yes_or_no if kind is bool else kind,
                   f"how to train: {name.replace('_', ' ')}; if none is given, as suits the data")

    new = verb("compare", compare)
    new.add_argument("study", nargs="?", metavar="STUDY.toml", help="a file of settings; options win over it")
    option(new, "out", str, "the folder that holds all results; results/STUDY, or results/compare, if none is named")
    common(new)
    option(new, "seeds", int, "how many dense networks to start from; 3 if none is given")
    kinds = {int: int, str: str, (int, float): float}
    helps = {"protocols": "any of " + " ".join(study.PROTOCOLS),
             "techniques": "any of " + " ".join(study.TECHNIQUES) + ", or package.module:function",
             "pruning": "any of " + " ".join(study.PRUNING) + ", or package.module:function",
             "rounds": "compressions: round i keeps 0.8**i",
             "densities": "further one-shot densities", "retrain_fractions": "t/T, shares of the training to run again",
             "iterative_fractions": "the same for iterative runs alone"}
    for name, kind in study.AXES.items():
        option(new, name.replace("_", "-"), kinds[kind], helps[name], nargs="+")
    new.add_argument("--noise", action="store_true", default=None,
                     help="run one run of each seed a second time, on other batches, to see what chance does")
    option(new, "workers", int, "how many runs side by side; if none is given, as many as there are cores, on a GPU 8")
    option(new, "measure", yes_or_no, "time the pruned networks at the end", default=True)
    option(new, "tracker", str, "wandb, trackio, or package.module:object: is told every run that finishes")
    option(new, "dask", str, "run on a Dask scheduler: tcp://host:port, or its scheduler file")
    new.add_argument("--dry-run", action="store_true", help="say what would be run and how long it would take")
    option(new, "only", str, "run only what is called so, e.g. 'seed0-*', and what it needs")
    new.add_argument("--retry-failed", action="store_true", help="run again what failed before")

    new = verb("prune", prune_network)
    option(new, "out", str, "the folder that holds all results", default="results/prune")
    common(new)
    option(new, "density", float, "the kept share to end at, e.g. 0.1")
    option(new, "max-drop", float, "end before losing more points of validation accuracy")
    option(new, "seed", int, "the seed of the initial weights and the data order", default=0)

    new = verb("report", draw)
    new.add_argument("folder", help="a folder that compare has written")
    option(new, "measure", yes_or_no, "time the pruned networks beside the dense one", default=False)

    new = verb("fetch", fetch_data)
    new.add_argument("name", help="cifar10, cifar100, mnist or fashion_mnist")
    option(new, "data-dir", str, "where to put it (or MINIREWIND_DATA)")

    new = verb("learn", learn_about)
    new.add_argument("action", nargs="?", default="status", choices=LEARN, help="one of " + ", ".join(LEARN))
    new.add_argument("name", nargs="?", help="the exercise; for status and open, the lesson")
    new.add_argument("--json", action="store_true", help="status for a script")
    new.add_argument("--give-up", action="store_true", help="show the solution of an exercise that is not solved")

    new = verb("export", export_network)
    new.add_argument("run", help="a folder that prune has written, or runs/NAME in one of compare's")
    option(new, "to", str, "any of " + " ".join(EXPORTS), default="sparse")
    option(new, "out", str, "the file to write (RUN/network.npz, .onnx or .safetensors)")
    return whole


VERBS = {"compare": compare, "prune": prune_network, "report": draw, "fetch": fetch_data, "export": export_network,
         "learn": learn_about}


def _brief(message: str, parser: argparse.ArgumentParser) -> str:
    """The parser's message, with the nearest known option where one is unknown."""
    known = [option for action in parser._actions for option in action.option_strings]
    for word in message.replace(":", " ").split():
        near = difflib.get_close_matches(word, known, n=1)
        if word.startswith("--") and word not in known and near:
            return f"{message}; did you mean {near[0]}?"
    return message


def main(arguments: list[str] | None = None) -> None:
    """The command `minirewind`: a user's mistake is one message and exit code 2."""
    try:
        options = parser().parse_args(arguments)
        if os.getcwd() not in sys.path:
            sys.path.append(os.getcwd())            # where package.module:function may lie
        VERBS[options.verb](options)
    except study.Incomplete as mistake:
        print(f"minirewind: {mistake}", file=sys.stderr)
        sys.exit(1)
    except Error as mistake:
        print(f"minirewind: {mistake}", file=sys.stderr)
        sys.exit(2)
    except BrokenPipeError:
        sys.exit(1)
    except OSError as reason:
        print(f"minirewind: {reason.filename or 'a file'}: {reason.strerror or reason}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("\nminirewind: stopped; what is done is kept, and the same command continues it", file=sys.stderr)
        sys.exit(130)
