"""The command of the settings: ``coordemu config --show``; and the options by which other commands take settings.

Role: reads a profile, a file and the environment, and prints every value with its origin. Without --show it only checks
them. `settings_options` and `settings_from` are for commands that use settings: the same options, the same errors.

Exit codes: 0 they hold, 2 they do not (one line says where, and what is allowed), 3 the file can't be read.

Thread: the main thread; blocks for the file. Upstream: none. Left out: the settings (`coordemu.resilience.settings`).
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any, TypeVar

import click

from coordemu.cli_options import EnvironmentFailure, check_files, write
from coordemu.report.config_report import headline, keys_markdown, print_settings, to_json
from coordemu.report.console import output
from coordemu.resilience.profiles import PROFILES
from coordemu.resilience.settings_file import SettingsError, SettingsFileUnreadable
from coordemu.resilience.settings_loader import LoadedSettings, load_settings

F = TypeVar("F", bound=Callable[..., Any])


def settings_options(command: F) -> F:
    """Add --profile and --config, as `profile` and `config_path`, for `settings_from`."""
    command = click.option("--config", "config_path", metavar="FILE", help="A TOML file of settings.")(command)
    return click.option("--profile", metavar="NAME", help=f"Settings that have a name: {', '.join(PROFILES)}.")(command)


def settings_from(profile: str | None, config_path: str | None) -> LoadedSettings:
    """The settings that the options, the file and the environment make. Raises click.UsageError, EnvironmentFailure.
    Blocks for the file."""
    try:
        return load_settings(profile, config_path, os.environ)
    except SettingsFileUnreadable as err:
        raise EnvironmentFailure(str(err)) from None
    except SettingsError as err:
        raise click.UsageError(str(err)) from None


@click.command()
@click.option("--show", is_flag=True, help="Print every value with its origin.")
@click.option("--keys", is_flag=True, help="Print what there is to be set, with its bounds, as Markdown.")
@click.option(
    "--json", "json_path", metavar="FILE", help="Write the values as JSON; - for stdout, which then has nothing else."
)
@settings_options
def config(show: bool, keys: bool, json_path: str | None, profile: str | None, config_path: str | None) -> None:
    """Check the settings, and show them.

    Later ones override earlier ones: default, profile, file, environment (COORDEMU_<SECTION>_<KEY>).
    """
    if keys and (show or json_path is not None or profile is not None or config_path is not None):
        raise click.UsageError("--keys goes with no other option: it is about all settings, not about yours")
    if keys:
        click.echo(keys_markdown(), nl=False)
        return
    check_files((json_path,))
    loaded = settings_from(profile, config_path)
    if json_path != "-":
        if show:
            print_settings(output(), loaded)
        else:
            click.echo(f"valid: {headline(loaded)}")
    if json_path is not None:
        write(json_path, json.dumps(to_json(loaded), indent=2) + "\n")
