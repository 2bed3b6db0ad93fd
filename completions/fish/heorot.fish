# Completion of Heorot's commands in fish. Nodes and jobs come from the live cluster, which gets at most a second to answer.

function __heorot_ask
    set -l words (commandline -opc)
    set -l at (contains -i -- --dir $words)
    if test -n "$at"; and test (count $words) -gt $at
        HEOROT_DIR=$words[(math $at + 1)] timeout 1 $argv 2>/dev/null
    else
        timeout 1 $argv 2>/dev/null
    end
end

function __heorot_nodes
    printf '%s\n' all up down master
    __heorot_ask bpstat -n | string replace -r '^' n
end

function __heorot_node_list
    __fish_append , (__heorot_nodes)
end

function __heorot_jobs
    __heorot_ask bpjob list -H | string replace -r '^(\S+)\s+(\S+)\s+(\S+).*$' '$1\t$2, $3'
end

function __heorot_processes
    __heorot_ask bpps -H | string replace -r '^\s*(\d+)\s+(\S+).*\s(\S+)$' '$1\t$2'
end

function __heorot_signals
    bpkill -l | string match -ar '[A-Z][A-Z0-9]+' | string match -v 'RT*'
end

function __heorot_bpsh_needs_nodes
    # True until the node list stands on the command line, or -a or -A in its place.
    set -l words (commandline -opc)
    set -e words[1]
    while set -q words[1]
        switch $words[1]
            case -I -O -E -b -l --stdin --stdout --stderr --headless --max-processes --image --with --dir \
                    --ranks --ranks-per-node --timeout --bind --input --rolling --fanout
                set -e words[1]
            case -a -A
                return 1
            case '-*'
            case '*'
                return 1
        end
        set -e words[1]
    end
    return 0
end

for command in bpsh bpstat bpctl bpps bpkill bpjob bpcp mpprun bpsrun heorot
    complete -c $command -f
    complete -c $command -l dir -r -d 'The directory of the cluster' -a '(__fish_complete_directories)'
    complete -c $command -s h -l help -d 'Print a summary of the options'
    complete -c $command -s v -l version -d 'Print the version'
    complete -c $command -s V -d 'Print the version'
end

complete -c bpsh -n __heorot_bpsh_needs_nodes -a '(__heorot_node_list)' -d Nodes
complete -c bpsh -n 'not __heorot_bpsh_needs_nodes' -a '(__fish_complete_subcommand)'
complete -c bpsh -s a -d 'All nodes that are up'
complete -c bpsh -s A -d 'All nodes that are not down'
complete -c bpsh -s n -d 'Standard input from /dev/null'
complete -c bpsh -s N -d 'No input and output at all'
complete -c bpsh -s L -d 'Whole lines, never mixed'
complete -c bpsh -s p -d 'Number of the node before each line'
complete -c bpsh -s s -d 'One node after the other'
complete -c bpsh -s d -d 'A divider line for each node'
complete -c bpsh -s b -x -d 'Longest line for -L, in bytes'
complete -c bpsh -s I -l stdin -r -F -d 'Standard input from a file on the node'
complete -c bpsh -s O -l stdout -r -F -d 'Standard output into a file on the node'
complete -c bpsh -s E -l stderr -r -F -d 'Standard error into a file on the node'
complete -c bpsh -s t -l time -d 'Print the wall time'
complete -c bpsh -s l -x -a '(__fish_complete_users)' -d Ignored
complete -c bpsh -l pty -d 'Give each rank a terminal'
complete -c bpsh -s e -l escape -x -a 'none' -d 'The character that begins an escape, with --pty'
complete -c bpsh -l gather -d 'Show equal output of several nodes once'
complete -c bpsh -l json -d 'One JSON document at the end'
complete -c bpsh -l detach -d 'Leave the job running and print its id'
complete -c bpsh -l label -d 'Name of the node before each line'
complete -c bpsh -l linger -d 'What a process leaves running stays in the job'
complete -c bpsh -l mpi -d 'Ranks of MPI find each other, and end together'
complete -c bpsh -l headless -x -d 'End the job on a node without any head so long'
complete -c bpsh -l image -x -a 'auto send path' -d 'Run the file of the node, or send this one'
complete -c bpsh -l with -r -d 'Send this file or directory, too'
complete -c bpsh -l stage -d 'Send the program and start nothing'
complete -c bpsh -l max-processes -x -d 'End the job if it has more on a node'
complete -c bpsh -l ranks -x -d 'How many ranks, in blocks on the nodes'
complete -c bpsh -l ranks-per-node -x -d 'How many ranks on each node'
complete -c bpsh -l timeout -x -d 'End the job on a node after so long'
complete -c bpsh -l rolling -x -d 'On so many nodes at a time'
complete -c bpsh -l fanout -x -d 'On so many nodes at a time'
complete -c bpsh -l stop-on-failure -d 'Begin with no further nodes when one has failed'
complete -c bpsh -l bind -x -a 'core cpu none' -d 'Bind each rank to CPUs of its node'
complete -c bpsh -l input -x -a 'all none' -d 'Standard input to these ranks only'

complete -c bprsh -f
complete -c bprsh -n '__fish_is_nth_token 1' -a '(__heorot_nodes)' -d Nodes
complete -c bprsh -n 'not __fish_is_nth_token 1' -a '(__fish_complete_subcommand --fcs-skip=2)'
complete -c bprsh -s l -x -a '(__fish_complete_users)' -d 'Be this user'
complete -c bprsh -s n -d 'Standard input from /dev/null'
complete -c bprsh -s t -d 'A terminal if there is one here; twice: in any case'
complete -c bprsh -s T -d 'No terminal'
complete -c bprsh -s s -d 'The command is a subsystem'
complete -c bprsh -s o -x -a 'HostName= LogLevel= RequestTTY= SendEnv= SessionType= SetEnv= StdinNull= User=' -d 'A setting'
complete -c bprsh -s q -d 'No word about what is left out'
complete -c bprsh -s G -d 'Print host and user'
complete -c bprsh -l dir -r -d 'The directory of the cluster' -a '(__fish_complete_directories)'
complete -c bprsh -s h -l help -d 'Print a summary of the options'
complete -c bprsh -s V -l version -d 'Print the version'
complete -c bprsh -s 4 -s 6 -s 8 -s a -s C -s d -s g -s K -s k -s M -s v -s x -s y -d Ignored
complete -c bprsh -s e -x -d 'The escape character'
complete -c bprsh -s B -s b -s c -s E -s F -s I -s i -s J -s m -s P -s p -s S -x -d Ignored
complete -c bprsh -s A -s X -s Y -d 'Left out'
complete -c bprsh -s f -s N -d Refused
complete -c bprsh -s D -s L -s O -s Q -s R -s W -s w -x -d Refused

complete -c bpstat -a '(__heorot_node_list)' -d Nodes
complete -c bpstat -s c -l compact -d 'States with their nodes folded'
complete -c bpstat -s l -l long -d 'A line for each node'
complete -c bpstat -s a -l address -d 'Only the addresses'
complete -c bpstat -s s -l status -d 'Only the states'
complete -c bpstat -s n -l number -d 'Only the numbers'
complete -c bpstat -s t -l total -d 'Only how many there are'
complete -c bpstat -s S -l sort-status -d 'Sort by state'
complete -c bpstat -s N -l sort-number -d 'Sort by number'
complete -c bpstat -s O -l keep-order -d 'Do not sort'
complete -c bpstat -s R -l sort-reverse -d 'Reverse the order'
complete -c bpstat -s U -l update -d 'Show it again when it changes'
complete -c bpstat -s A -l host -x -a '(__fish_print_hostnames)' -d 'Numbers of the nodes at this host'
complete -c bpstat -s p -l processes -d 'List processes with their nodes'
complete -c bpstat -s P -l ps -d 'Put a node column into the output of ps'
complete -c bpstat -l json -d 'Print JSON'

complete -c bpctl -s S -l nodes -x -a '(__heorot_node_list)' -d Nodes
complete -c bpctl -s M -l master -d 'The node of the host whose head leads'
complete -c bpctl -s s -l state -x -a 'up drain error unavailable' -d 'Set them to this state'
complete -c bpctl -s m -l mode -x -a '111 110 100' -d 'Who may start processes there'
complete -c bpctl -s u -l user -x -a '(__fish_complete_users)' -d 'Give them to this user'
complete -c bpctl -s g -l group -x -a '(__fish_complete_groups)' -d 'Give them to this group'
complete -c bpctl -s R -l reboot -d 'Reboot them'
complete -c bpctl -s H -l halt -d 'Halt them'
complete -c bpctl -s P -l power-off -d 'Power them off'
complete -c bpctl -s r -l chroot -r -d 'Not possible'
complete -c bpctl -l reconnect -x -d 'Not possible'
complete -c bpctl -l reason -x -d 'Why, for people'
complete -c bpctl -l json -d 'Print JSON'

complete -c bpps -s n -l nodes -x -a '(__heorot_node_list)' -d 'Only on these nodes'
complete -c bpps -s j -l job -x -a '(__heorot_jobs)' -d 'Only of this job'
complete -c bpps -s u -l user -x -a '(__fish_complete_users)' -d 'Only of these users'
complete -c bpps -s s -l state -x -a 'R S D T Z' -d 'Only in these states'
complete -c bpps -s r -l ranks-only -d 'Only ranks'
complete -c bpps -s k -l sort -x -a '(__fish_append , node pid job rank user state start time memory)' -d 'Sort keys'
complete -c bpps -s l -l long -d 'Also parent, time and memory'
complete -c bpps -s w -l watch -d 'Show it again every so many seconds'
complete -c bpps -s H -l no-header -d 'No header line'
complete -c bpps -l json -d 'Print JSON'

complete -c bpkill -a '(__heorot_jobs)'
complete -c bpkill -a '(__heorot_processes)'
complete -c bpkill -s s -l signal -x -a '(__heorot_signals)' -d 'The signal'
complete -c bpkill -s l -l list -d 'List the signals'

complete -c bpcp -F
complete -c bpcp -a '(__heorot_nodes | string replace -r \'$\' :)' -d 'Files of nodes'
complete -c bpcp -s r -l recursive -d 'Copy directories with all that is in them'
complete -c bpcp -s p -l preserve -d 'Keep mode, time and owner'
complete -c bpcp -s q -l quiet -d 'Show no progress'
complete -c bpcp -l json -d 'Print JSON'

set -l commands list show attach wait kill
complete -c bpjob -n "not __fish_seen_subcommand_from $commands" -a list -d 'List the jobs'
complete -c bpjob -n "not __fish_seen_subcommand_from $commands" -a show -d 'Show one job'
complete -c bpjob -n "not __fish_seen_subcommand_from $commands" -a attach -d 'Take part in a job'
complete -c bpjob -n "not __fish_seen_subcommand_from $commands" -a wait -d 'Wait until jobs are over'
complete -c bpjob -n "not __fish_seen_subcommand_from $commands" -a kill -d 'Send a signal to the ranks of jobs'
complete -c bpjob -n '__fish_seen_subcommand_from show attach wait kill' -a '(__heorot_jobs)'
complete -c bpjob -n '__fish_seen_subcommand_from list' -s u -l user -x -a '(__fish_complete_users)' -d 'Only jobs of these users'
complete -c bpjob -n '__fish_seen_subcommand_from list' -s s -l state -x -a '(__fish_append , launching running done)' -d 'States'
complete -c bpjob -n '__fish_seen_subcommand_from list' -s H -l no-header -d 'No header line'
complete -c bpjob -n '__fish_seen_subcommand_from list show' -l json -d 'Print JSON'
complete -c bpjob -n '__fish_seen_subcommand_from attach' -s f -l from-start -d 'Show the output from the start'
complete -c bpjob -n '__fish_seen_subcommand_from wait' -s q -l quiet -d 'Do not name ranks that were killed'
complete -c bpjob -n '__fish_seen_subcommand_from kill' -s s -l signal -x -a '(__heorot_signals)' -d 'The signal'
complete -c bpjob -n '__fish_seen_subcommand_from attach' -s L -l lines -d 'Whole lines, never mixed'
complete -c bpjob -n '__fish_seen_subcommand_from attach' -s p -l prefix -d 'Number of the node before each line'
complete -c bpjob -n '__fish_seen_subcommand_from attach' -l label -d 'Name of the node before each line'
complete -c bpjob -n '__fish_seen_subcommand_from attach' -l watch -d 'Only look on, beside who reads it'

function __heorot_at
    # True if the words of the command line so far, without options, are these.
    set -l words (commandline -opc | string match -v -- '-*')
    test "$words[2..]" = "$argv"
end

function __heorot_in
    # True if the command line begins with one of these commands, given as 'up' or 'node join'.
    set -l words (commandline -opc)
    for command in $argv
        string match -q -- "$command *" "$words[2..] "; and return 0
    end
    return 1
end

complete -c heorot -n '__heorot_at' -a up -d 'Start a cluster on this machine'
complete -c heorot -n '__heorot_at' -a down -d 'End it and remove all that it left'
complete -c heorot -n '__heorot_at' -a status -d 'Heads, epoch, nodes, tree, daemons'
complete -c heorot -n '__heorot_at' -a events -d 'What has happened to the cluster'
complete -c heorot -n '__heorot_in events' -s f -l follow -d 'Go on with what happens'
complete -c heorot -n '__heorot_in events' -l since -x -d 'Only what is not older than this'
complete -c heorot -n '__heorot_at' -a doctor -d 'Say what this machine lacks'
complete -c heorot -n '__heorot_at' -a hosts -d 'Print names and addresses of all nodes'
complete -c heorot -n '__heorot_at' -a node -d 'Start, stop, ask, join, list, remove, drain or resume nodes'
complete -c heorot -n '__heorot_at' -a head -d 'Start, stop or make heads, hand over to another'
complete -c heorot -n '__heorot_at' -a token -d 'Make, list and revoke join tokens'
complete -c heorot -n '__heorot_at node' -a 'start stop ps join list remove drain resume'
complete -c heorot -n '__heorot_at head' -a 'start stop init add join remove switch reload'
complete -c heorot -n '__heorot_at' -a certificate -d 'Show or renew certificates'
complete -c heorot -n '__heorot_at certificate' -a 'show renew'
complete -c heorot -n '__heorot_at' -a config -d 'Check the configuration of this host'
complete -c heorot -n '__heorot_at config' -a check
complete -c heorot -n '__heorot_at' -a backup -d 'Write down what makes this host anew'
complete -c heorot -n '__heorot_at' -a restore -d 'Make a host anew from that'
complete -c heorot -n '__heorot_in backup restore' -F
complete -c heorot -n '__heorot_in backup restore' -l config -r -F -d 'The configuration of the head'
complete -c heorot -n '__heorot_at token' -a 'create list revoke'
complete -c heorot -n "__heorot_in up down status doctor hosts 'node start' 'node stop' 'node ps' 'head start' 'head stop'" -s d -r -d 'The directory of the cluster'
complete -c heorot -n "__heorot_in 'node start' 'node stop' 'node ps' 'node drain' 'node resume'" -a '(__heorot_node_list)' -d Nodes
complete -c heorot -n '__heorot_in up doctor' -s n -l nodes -x -d 'How many nodes'
complete -c heorot -n '__heorot_in hosts' -l install -d 'Write them into /etc/hosts'
complete -c heorot -n '__heorot_in hosts' -l file -r -F -d 'Another file'
complete -c heorot -n '__heorot_in doctor' -l cluster -d 'Look at the cluster that runs'
complete -c heorot -n '__heorot_in up' -l heads -x -d 'How many heads'
complete -c heorot -n '__heorot_in up' -l etcd -x -d 'Let the heads agree through etcd'
complete -c heorot -n '__heorot_in up' -l fanout -x -d 'Children of each hop of the tree'
complete -c heorot -n '__heorot_in up' -l master -d 'Make one node more, which is master'
complete -c heorot -n '__heorot_in up' -l bare -d 'Let the nodes see an empty file system'
complete -c heorot -n '__heorot_in up' -l image-cache -x -d 'MiB for sent files on each node'
complete -c heorot -n '__heorot_in up' -l debug -d 'Write debug lines to the logs'
complete -c heorot -n '__heorot_in up down' -s q -l quiet -d 'Say nothing'
complete -c heorot -n '__heorot_in status' -l tree -d 'Who is below whom'
complete -c heorot -n "__heorot_in up status doctor hosts 'token list' 'token create' 'certificate show' 'config check' 'node list' 'node ps' 'node drain' 'node resume'" -l json -d 'Print JSON'
complete -c heorot -n "__heorot_in 'node join'" -l token -x -d 'The token'
complete -c heorot -n "__heorot_in 'node join'" -l token-file -r -F -d 'Read the token from a file'
complete -c heorot -n "__heorot_in 'node join'" -l number -x -d 'The number to ask for'
complete -c heorot -n "__heorot_in 'node drain'" -l reason -x -d 'Why, for people'
complete -c heorot -n "__heorot_in 'node join'" -l head-config -r -F -d 'The configuration of the head here'
complete -c heorot -n "__heorot_in 'node join'" -l force -d 'Replace a configuration that exists'
complete -c heorot -n "__heorot_in 'node join' 'head init' 'head join'" -l listen -x -d 'Where to accept nodes'
complete -c heorot -n "__heorot_in 'node join' 'head init' 'head join'" -l config -r -F -d 'The configuration to write'
complete -c heorot -n "__heorot_in 'head add' 'head remove'" -l config -r -F -d 'The configuration of the head on this host'
complete -c heorot -n "__heorot_in 'head remove'" -l force -d 'Even if nodes know no other head'
complete -c heorot -n "__heorot_in 'head add'" -l output -r -F -d 'The file to write'
complete -c heorot -n "__heorot_in 'head join'" -F
complete -c heorot -n "__heorot_in 'head init'" -l name -x -d 'The name of the head'
complete -c heorot -n "__heorot_in 'head init' 'head add'" -l address -x -d 'How nodes reach a head'
complete -c heorot -n "__heorot_in 'head init'" -l capacity -x -d 'How many nodes there may be'
complete -c heorot -n "__heorot_in 'head init'" -l cluster -x -d 'The id of the cluster'
complete -c heorot -n "__heorot_in 'node join' 'head init' 'head join'" -l socket -r -F -d 'Where commands connect to'
complete -c heorot -n "__heorot_in 'token create'" -l ttl -x -d 'How long it can be used'
complete -c heorot -n "__heorot_in 'token create'" -l uses -x -d 'How many hosts may join with it'
complete -c heorot -n "__heorot_in 'token create'" -l node -x -d 'Give this number'
complete -c heorot -n '__heorot_in certificate config' -l head-config -r -F -d "The head's configuration"
complete -c heorot -n '__heorot_in certificate config' -l node-config -r -F -d "The node's configuration"
complete -c heorot -n "__heorot_in 'certificate renew'" -l within -x -d 'Only those that end within this time'
complete -c heorot -n "__heorot_in 'certificate renew'" -l restart -d 'Then restart the services'

complete -c mpprun -a '(__fish_complete_subcommand)'
complete -c mpprun -s n -l np -x -d 'How many ranks'
complete -c mpprun -l nodes -x -a '(__heorot_node_list)' -d 'On these nodes'
complete -c mpprun -l cyclic -d 'One rank on each node in turn'

complete -c bpsrun -a '(__fish_complete_subcommand)'
complete -c bpsrun -s w -l nodelist -x -a '(__heorot_node_list)' -d 'On these nodes'
complete -c bpsrun -s N -x -d 'How many nodes these are'
complete -c bpsrun -s n -l ntasks -x -d 'How many processes'
complete -c bpsrun -l input -x -a 'none all' -d 'Standard input'
complete -c bpsrun -l with -r -F -d 'Send this file or directory, too'
