"""The embedded shard's commands: the table that finds them, and those of the connection itself.

Role: what a command answers, apart from when. A handler gets the connection's state (`Session`) and the command with
its arguments, and returns the encoded reply; ``_FT.SEARCH`` also notes how long serving it takes. The commands for data
are in modules of their own (`string_commands`, `list_commands`, `stream_commands`, `group_commands`, ...), which the
table takes in. Everything about time, order and faults is `coordemu.shards.shard_connection`.

Error texts begin with the codes that clients look at (NOAUTH, WRONGPASS, NOPROTO, ERR); of the data commands' errors
the words are Redis', of the others' they are ours.

Thread: the shard's loop. Upstream: the shard side of the coordinator, where ``_FT.SEARCH`` is the internal command
that a fan-out sends. Left out: inline commands, scripts, WATCH, INFO, CONFIG, and what the modules leave out.
"""

from __future__ import annotations

from coordemu import resp_encode as resp
from coordemu.runtime.base import NS_PER_US
from coordemu.shards.fault_plan import NO_FAULTS, FaultPlan
from coordemu.shards.group_commands import GROUP_COMMANDS
from coordemu.shards.hash_commands import HASH_AND_SET_COMMANDS
from coordemu.shards.key_commands import KEY_COMMANDS
from coordemu.shards.list_commands import LIST_COMMANDS
from coordemu.shards.shard_errors import ShardUrlError
from coordemu.shards.shard_replies import QUEUED, Refused
from coordemu.shards.shard_session import ANY_NUMBER, QUIT, CommandTable, Handler, Session
from coordemu.shards.sorted_set_commands import SORTED_SET_COMMANDS
from coordemu.shards.stream_commands import STREAM_COMMANDS
from coordemu.shards.string_commands import STRING_COMMANDS
from coordemu.shards.subscription_commands import SUBSCRIPTION_COMMANDS
from coordemu.shards.transaction_commands import TRANSACTION_COMMANDS

LONGEST_SERVICE_US = 3_600_000_000
_NOAUTH = resp.error("NOAUTH Authentication required.")
_WRONGPASS = resp.error("WRONGPASS invalid username-password pair or user is disabled.")
_NO_PASSWORD_SET = resp.error("ERR AUTH <password> called without any password configured for the default user.")


def answer(session: Session, command: list[bytes]) -> bytes:
    """Run one command and return its encoded reply. command: its name, in any case, and its arguments.

    In Redis' order: the command must exist, then have as many arguments as the table allows, then its client must be
    authenticated, and not be bound to listening; in a transaction it is then queued. Only now does the handler look
    closer. Sets session.service_ns and session.wants for the caller; b"" when the reply comes later. Thread: the
    loop's.
    """
    name = command[0]
    entry = COMMANDS.get(name) or COMMANDS.get(name.upper())
    if entry is None:
        session.flawed = True
        return resp.error(f"ERR unknown command '{_shown(name)}'")
    handler, least, most = entry
    if not least <= len(command) <= most:
        session.flawed = True
        return _wrong_arity(command)
    if not session.plain and (reply := _instead(session, handler, command)) is not None:
        return reply
    try:
        return handler(session, command)
    except Refused as refusal:
        return refusal.reply


def _instead(session: Session, handler: Handler, command: list[bytes]) -> bytes | None:
    """The reply when a session that is not plain keeps the command from its handler, None when it does not."""
    if not session.authenticated and handler not in _WITHOUT_AUTH:
        session.flawed = True
        return _NOAUTH
    if session.protocol == 2 and session.channels and handler not in _WHILE_LISTENING:
        allowed = "SUBSCRIBE, UNSUBSCRIBE, PING and QUIT"
        return resp.error(f"ERR Can't execute '{_shown(command[0]).lower()}': who listens may ask for {allowed} only")
    if session.queue is not None and handler not in _NEVER_QUEUED:
        session.queue.append((handler, command))
        return QUEUED
    if handler is _ping and len(command) <= 2 and session.protocol == 2 and session.channels:
        return resp.array([resp.bulk(b"pong"), resp.bulk(b"".join(command[1:2]))])
    return None


def is_control(command: list[bytes]) -> bool:
    """Whether faults leave this command alone: FAULT itself."""
    return command[0].upper() == b"FAULT"


def _wrong_arity(command: list[bytes]) -> bytes:
    return resp.error(f"ERR wrong number of arguments for '{_shown(command[0]).lower()}' command")


def _shown(name: bytes) -> str:
    return name[:64].decode(errors="replace")


def _ping(_session: Session, command: list[bytes]) -> bytes:
    if len(command) > 2:
        return _wrong_arity(command)
    return resp.PONG if len(command) == 1 else resp.bulk(command[1])


def _echo(_session: Session, command: list[bytes]) -> bytes:
    return resp.bulk(command[1])


def _check_password(session: Session, user: bytes, password: bytes) -> bytes | None:
    """None when the password is right, else the error reply. A wrong one leaves the session as it was."""
    if session.shard.password is None:
        # Redis' default user without a password takes any in HELLO and in AUTH with a user.
        return None if user == b"default" else _WRONGPASS
    if user != b"default" or password != session.shard.password:
        return _WRONGPASS
    session.authenticated = True
    session.settle()
    return None


def _auth(session: Session, command: list[bytes]) -> bytes:
    if len(command) == 2 and session.shard.password is None:
        return _NO_PASSWORD_SET
    user = command[1] if len(command) == 3 else b"default"
    return _check_password(session, user, command[-1]) or resp.OK


def _hello(session: Session, command: list[bytes]) -> bytes:
    protocol, rest = session.protocol, command[2:]
    if len(command) > 1:
        if not command[1].isdigit():
            return resp.error("ERR the protocol version is not a number")
        if command[1] not in (b"2", b"3"):
            return resp.error("NOPROTO unsupported protocol version")
        protocol = int(command[1])
    credentials: tuple[bytes, bytes] | None = None
    while rest:
        option = rest[0].upper()
        if option == b"AUTH" and len(rest) >= 3:
            credentials, rest = (rest[1], rest[2]), rest[3:]
        elif option == b"SETNAME" and len(rest) >= 2:
            rest = rest[2:]
        else:
            return resp.error(f"ERR syntax error in HELLO option '{_shown(rest[0])}'")
    if credentials is not None and (refusal := _check_password(session, *credentials)) is not None:
        return refusal
    if not session.authenticated:
        return resp.error("NOAUTH HELLO needs an authenticated connection, or its AUTH option")
    session.protocol = protocol
    session.settle()
    return resp.mapping(
        [
            (resp.bulk(b"server"), resp.bulk(b"coordemu")),
            (resp.bulk(b"version"), resp.bulk(b"6.2.0")),
            (resp.bulk(b"proto"), resp.integer(protocol)),
            (resp.bulk(b"id"), resp.integer(session.ident)),
            (resp.bulk(b"mode"), resp.bulk(b"standalone")),
            (resp.bulk(b"role"), resp.bulk(b"master")),
            (resp.bulk(b"modules"), resp.array([])),
        ],
        protocol,
    )


def _client(session: Session, command: list[bytes]) -> bytes:
    verb = command[1].upper()
    if verb == b"ID" and len(command) == 2:
        return resp.integer(session.ident)
    if (verb, len(command)) in ((b"SETNAME", 3), (b"SETINFO", 4)):
        return resp.OK
    return resp.error(f"ERR unknown subcommand or wrong number of arguments for 'client|{_shown(command[1]).lower()}'")


def _quit(session: Session, _command: list[bytes]) -> bytes:
    session.wants = QUIT
    return resp.OK


def _search(session: Session, command: list[bytes]) -> bytes:
    if len(command) == 4 or (len(command) == 5 and command[3].upper() != b"SERVICE"):
        return resp.error("ERR syntax error: _FT.SEARCH index id [SERVICE microseconds]")
    if len(command) == 5:
        digits = command[4]
        if not digits.isdigit() or len(digits) > 10 or int(digits) > LONGEST_SERVICE_US:
            return resp.error(f"ERR SERVICE is not a number of microseconds within 0..{LONGEST_SERVICE_US}")
        session.service_ns = int(digits) * NS_PER_US
    if session.protocol == 3:
        return resp.mapping(
            [
                (b"+total_results\r\n", b":1\r\n"),
                (b"+results\r\n", resp.array([resp.bulk(command[2])])),
            ],
            3,
        )
    return b"*2\r\n:1\r\n$%d\r\n%b\r\n" % (len(command[2]), command[2])


def _fault(session: Session, command: list[bytes]) -> bytes:
    verb = command[1].upper()
    shard = session.shard
    if verb == b"SET" and len(command) == 3:
        try:
            shard.set_faults(FaultPlan.parse(command[2].decode(errors="replace")))
        except ShardUrlError as problem:
            return resp.error(f"ERR {problem}")
        return resp.OK
    if verb == b"CLEAR" and len(command) == 2:
        shard.set_faults(NO_FAULTS)
        return resp.OK
    if verb == b"GET" and len(command) == 2:
        return resp.bulk(str(shard.faults).encode())
    if verb == b"STATS" and len(command) == 2:
        pairs = [(resp.bulk(name.encode()), resp.integer(value)) for name, value in shard.statistics().items()]
        return resp.mapping(pairs, session.protocol)
    return resp.error("ERR syntax error: FAULT SET plan | CLEAR | GET | STATS")


_CONNECTION_COMMANDS: CommandTable = {
    b"PING": (_ping, 1, ANY_NUMBER),
    b"ECHO": (_echo, 2, 2),
    b"AUTH": (_auth, 2, 3),
    b"HELLO": (_hello, 1, ANY_NUMBER),
    b"CLIENT": (_client, 2, ANY_NUMBER),
    b"QUIT": (_quit, 1, ANY_NUMBER),
    b"_FT.SEARCH": (_search, 3, 5),
    b"FAULT": (_fault, 2, 3),
}
COMMANDS: CommandTable = {
    **_CONNECTION_COMMANDS,
    **STRING_COMMANDS,
    **KEY_COMMANDS,
    **LIST_COMMANDS,
    **HASH_AND_SET_COMMANDS,
    **SORTED_SET_COMMANDS,
    **STREAM_COMMANDS,
    **GROUP_COMMANDS,
    **SUBSCRIPTION_COMMANDS,
    **TRANSACTION_COMMANDS,
}
_WITHOUT_AUTH = (_auth, _hello, _quit)
_WHILE_LISTENING = (_ping, _quit, *(SUBSCRIPTION_COMMANDS[name][0] for name in (b"SUBSCRIBE", b"UNSUBSCRIBE")))
_NEVER_QUEUED = (_quit, *(handler for handler, _, _ in TRANSACTION_COMMANDS.values()))
