#!/usr/bin/perl
# Perl as a client: HTTP::Tiny (in the core) and LWP.
#
# perl client.pl URL[,BYTES] ...   one JSON verdict a line for each base URL
use strict;
use warnings;
use HTTP::Tiny;
use JSON::PP;
use LWP::UserAgent;

use constant DEFAULT_BYTES => 65_536;
use constant PERIOD => 251;

$| = 1;
my $all = 1;
for my $argument (@ARGV) {
    my ($base, $bytes) = split /,/, $argument;
    my $verdict = run($base, $bytes // DEFAULT_BYTES);
    $all &&= $verdict->{ok};
    print JSON::PP->new->canonical->encode($verdict), "\n";
}
exit($all ? 0 : 1);

sub run {
    my ($base, $bytes) = @_;
    my %verdict = (client => 'perl', base => $base, map({ $_ => JSON::PP::false } qw(get post keep_alive ok)), stream_bytes => 0);
    my $done = eval {
        my $tiny = HTTP::Tiny->new(timeout => 60);
        my $text = get($tiny, "$base/get?word=caf%C3%A9");
        $verdict{get} = yes($text =~ /word/);
        my $posted = $tiny->post("$base/post", { content => 'posted by perl', headers => { 'Content-Type' => 'text/plain' } });
        my $agent = LWP::UserAgent->new(timeout => 60, keep_alive => 1);
        my $agreed = $agent->post("$base/post", 'Content-Type' => 'text/plain', Content => 'posted by lwp');
        $verdict{post} = yes($posted->{content} =~ /posted by perl/ && $agreed->decoded_content =~ /posted by lwp/);
        my ($host) = $base =~ m{//([^/]+)};
        my %ports;
        for (1 .. 10) {
            get($tiny, "$base/get");
            my $handle = $tiny->{handle} or next;
            $ports{ $handle->{fh}->sockport } = 1;
        }
        $verdict{keep_alive} = yes(keys %ports == 1);
        $verdict{stream_bytes} = stream($tiny, "$base/stream-bytes/$bytes");
        1;
    };
    $verdict{error} = "$@" unless $done;
    $verdict{ok} = yes($done && $verdict{get} && $verdict{post} && $verdict{keep_alive} && $verdict{stream_bytes} == $bytes);
    return \%verdict;
}

sub get {
    my ($tiny, $url) = @_;
    my $reply = $tiny->get($url);
    die "$url: $reply->{status} $reply->{content}\n" unless $reply->{status} == 200;
    return $reply->{content};
}

sub stream {
    my ($tiny, $url) = @_;
    my ($total, $pattern) = (0, join('', map { chr } 0 .. PERIOD - 1) x 6000);
    my $see = sub {
        my ($piece, $reply) = @_;
        if (($reply->{headers}{'x-pattern'} // '') eq 'mod' . PERIOD) {
            die "bytes after $total are others\n" if $piece ne substr $pattern, $total % PERIOD, length $piece;
        }
        $total += length $piece;
    };
    my $reply = $tiny->get($url, { data_callback => $see });
    die "$url: $reply->{status} $reply->{content}\n" unless $reply->{status} == 200;
    return $total;
}

sub yes { return $_[0] ? JSON::PP::true : JSON::PP::false }
