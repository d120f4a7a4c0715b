# Completion of efs-agent's command line, for bash 4.2 and later. Needs nothing of bash-completion.
# A unit test compares it with the help texts: src/cli.rs.

_efs_agent() {
  local commands='check register unregister status unmount tunnel'
  local session='--once --config --allow-private-namespace --help --version'
  local words='' word=${COMP_WORDS[COMP_CWORD]:-} before=${COMP_WORDS[COMP_CWORD - 1]:-} prefix=''
  COMPREPLY=()

  # "--config=/etc" is three words where bash breaks words at "=", as it does by default, else one.
  if [ "$word" = = ]; then
    word=''
  elif [ "$before" = = ] && [ "$COMP_CWORD" -ge 3 ]; then
    before=${COMP_WORDS[COMP_CWORD - 2]}
  else
    case $word in --config=* | --file=*) before=${word%%=*} prefix=$before= word=${word#*=} ;; esac
  fi
  case $before in
    --config | --file)
      # Slashes behind folders, and odd names quoted; outside of a completion there is nothing to say so to.
      compopt -o filenames 2>/dev/null || :
      mapfile -t COMPREPLY < <(compgen -P "$prefix" -f -- "$word")
      return 0
      ;;
  esac

  # A command comes before all options.
  if [ "$COMP_CWORD" -eq 1 ]; then
    words="$commands $session"
  else
    case ${COMP_WORDS[1]:-} in
      check) words='--json --config --help' ;;
      register) words='--dry-run --no-termination --shim --replace --config --file --help' ;;
      unregister) words='--dry-run --file --help' ;;
      status) words='--json --config --help' ;;
      unmount) words='--terminate --config --help' ;;
      tunnel) words='--config --all --help' ;;
      -*) words=$session ;;
    esac
  fi
  mapfile -t COMPREPLY < <(compgen -W "$words" -- "$word")
}

complete -F _efs_agent efs-agent
